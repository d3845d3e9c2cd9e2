-- Every birth and change of status, as it happens and whoever makes it.

create or replace function marketplace.tg_seller_transfers__log_status()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reason text := nullif(current_setting('marketplace.reason', true), '');
begin
  -- Asked again, after every trigger that could have changed the status since the guard looked.
  if tg_op = 'UPDATE' and not marketplace.can_transition_transfer_status(OLD.status, NEW.status) then
    raise exception 'transfer % cannot go from % to %', OLD.id, OLD.status, NEW.status
      using errcode = 'ST001',
            hint = 'can_transition_transfer_status() says what may follow what; look for a trigger of somebody else''s.',
            schema = tg_table_schema, table = tg_table_name, column = 'status';
  end if;
  if NEW.failure_message is not null and NEW.status <> 'completed' then
    v_reason := concat_ws(': ', v_reason, NEW.failure_message);
  end if;
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  values (
    NEW.id,
    case tg_op when 'UPDATE' then OLD.status end,
    NEW.status,
    marketplace._clean_text(v_reason, 1000)
  );
  return null;
end
$$;

comment on function marketplace.tg_seller_transfers__log_status() is
  'Writes every birth and status change to transfer_status_log, with marketplace.reason and the row''s own words.';
