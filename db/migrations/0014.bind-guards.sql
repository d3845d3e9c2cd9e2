-- Binds the triggers that guard the records. The functions behind them come from db/functions; until those are loaded
-- each trigger calls a stub that refuses everything, so that a half-installed database loses nothing.
--
-- ENABLE ALWAYS: an ordinary trigger is skipped under session_replication_role = replica.
-- depends: 0013.index-pending

do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'tg_seller_transfers__guard_transition',
    'tg_seller_transfers__guard_frozen',
    'tg_seller_transfers__log_status',
    'tg_records__refuse_change'
  ]
  loop
    if to_regprocedure('marketplace.' || v_function || '()') is null then
      execute format($stub$
        create function marketplace.%I() returns trigger
        language plpgsql
        set search_path = pg_catalog, pg_temp
        as $body$
        begin
          raise exception 'the guard of %%.%% is not loaded', tg_table_schema, tg_table_name
            using errcode = 'ST007',
                  hint = 'Load db/functions: run seller-transfers migrate.';
        end
        $body$
      $stub$, v_function);
      execute format('comment on function marketplace.%I() is %L',
        v_function, 'Stub: refuses everything until db/functions is loaded.');
    end if;
  end loop;
end
$$;

create or replace trigger _100_guard_transition
before insert or update on marketplace.seller_transfers
for each row execute function marketplace.tg_seller_transfers__guard_transition();

create or replace trigger _200_guard_frozen
before update on marketplace.seller_transfers
for each row execute function marketplace.tg_seller_transfers__guard_frozen();

create or replace trigger _900_log_birth
after insert on marketplace.seller_transfers
for each row execute function marketplace.tg_seller_transfers__log_status();

-- Not `update of status`: that one asks whether the statement names the column, not whether the row's status changed.
create or replace trigger _900_log_status
after update on marketplace.seller_transfers
for each row when (old.status is distinct from new.status)
execute function marketplace.tg_seller_transfers__log_status();

create or replace trigger _100_refuse_delete
before delete on marketplace.seller_transfers
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.seller_transfers
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update or delete on marketplace.transfer_status_log
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.transfer_status_log
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update or delete on marketplace.transfer_attempts
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.transfer_attempts
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update or delete on marketplace.reversal_requests
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.reversal_requests
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.reversal_request_lines
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.reversal_request_lines
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update on marketplace.reversal_request_lines
for each row when (
  (new.reversal_request_id, new.transfer_id, new.asked)
  is distinct from (old.reversal_request_id, old.transfer_id, old.asked)
)
execute function marketplace.tg_records__refuse_change();

-- Under another identity every open reversal would go out under a key that Stripe has not seen.
create or replace trigger _100_refuse_change
before update on marketplace.stripe_control
for each row when (old.database_id is distinct from new.database_id)
execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.stripe_control
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.stripe_control
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update or delete on marketplace.stripe_control_log
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.stripe_control_log
for each statement execute function marketplace.tg_records__refuse_change();

-- Without its schedule a row would be due again at once, and a pause would have no trial call.
create or replace trigger _100_refuse_delete
before delete on marketplace.retry_policy
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.retry_policy
for each statement execute function marketplace.tg_records__refuse_change();

do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgname, t.tgrelid::regclass as relation
    from pg_catalog.pg_trigger as t
    inner join pg_catalog.pg_class as c on c.oid = t.tgrelid
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'marketplace' and not t.tgisinternal and t.tgenabled <> 'A'
  loop
    execute format('alter table %s enable always trigger %I', v_trigger.relation, v_trigger.tgname);
  end loop;
end
$$;
