-- What was recorded is not deleted, and what is a log is not changed: who tries is told what to call instead.

create or replace function marketplace.tg_records__refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_gone jsonb;
begin
  -- History that a pruning has on record: tg_records__match_pruning() asks whether it is that, and all of it.
  if tg_op = 'DELETE' and tg_relid in (
    to_regclass('marketplace.transfer_status_log'), to_regclass('marketplace.transfer_attempts')
  ) then
    v_gone := to_jsonb(OLD);
    if marketplace._is_being_pruned(
      (v_gone ->> 'transfer_id')::bigint,
      case tg_table_name when 'transfer_status_log' then (v_gone ->> 'id')::bigint end
    ) then
      return OLD;
    end if;
  end if;
  raise exception '% of %.% is refused', tg_op, tg_table_schema, tg_table_name
    using errcode = 'ST002',
          hint = 'It is kept as it was written. ' || case tg_table_name
            when 'seller_transfers' then 'give_up() ends a row, add_note() says why it should not be there.'
            when 'transfer_status_log' then 'add_note() adds to the log of a transfer.'
            when 'transfer_attempts' then 'add_note() says on the transfer what is wrong with a report.'
            when 'reversal_requests' then 'withdraw_reversal_request() takes a request back.'
            when 'reversal_request_lines' then 'withdraw_reversal_request() takes a request back; request_reversal() asks for another one.'
            when 'stripe_events' then 'dismiss() takes an event that is kept off needs_attention.'
            when 'stripe_control' then 'pause_stripe_calls() stops all calls; another Stripe account needs a database of its own.'
            when 'retry_policy' then 'UPDATE the row: each verdict has one.'
            else 'What is so now is said by the functions: see the README.' end,
          schema = tg_table_schema, table = tg_table_name;
end
$$;

comment on function marketplace.tg_records__refuse_change() is
  'Refuses what it is bound to: DELETE and TRUNCATE of records, UPDATE of logs and of the database''s identity (ST002). Lets go of history that this transaction has recorded as a pruning.';
