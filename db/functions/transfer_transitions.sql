-- The state machine of a transfer, written once.
--
--   pending ──► completed ──► reversal_pending ──► reversed
--      │            ▲                │
--      ▼            │                ▼
--    failed ────────┴────────► permanently_failed
--
-- What is not listed is refused; a status may always stay what it is (retry bookkeeping); an unknown status is refused.
-- The trigger fires whoever changes a status, and under session_replication_role = replica as well.

create or replace function marketplace.can_transition_transfer_status(p_from text, p_to text)
returns boolean
language plpgsql
immutable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    case p_from
      when 'pending' then p_to in ('pending', 'completed', 'failed')
      when 'completed' then p_to in ('completed', 'reversal_pending')
      when 'failed' then p_to in ('failed', 'completed', 'permanently_failed')
      when 'reversal_pending' then p_to in ('reversal_pending', 'reversed', 'permanently_failed')
      when 'reversed' then p_to = 'reversed'
      when 'permanently_failed' then p_to = 'permanently_failed'
    end,
    false
  );
end
$$;

comment on function marketplace.can_transition_transfer_status(text, text) is
  'True if a transfer may go from the first status to the second. False for anything unknown or null.';

create or replace function marketplace.tg_seller_transfers__guard_transition()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    if NEW.status is null or NEW.status not in ('pending', 'completed') then
      raise exception 'a transfer cannot be born %', coalesce(NEW.status, 'without a status')
        using errcode = 'ST001',
              hint = 'Use create_transfer() or record_completed_transfer().',
              schema = tg_table_schema, table = tg_table_name, column = 'status';
    end if;
    return NEW;
  end if;

  if not marketplace.can_transition_transfer_status(OLD.status, NEW.status) then
    raise exception 'transfer % cannot go from % to %', OLD.id, OLD.status, coalesce(NEW.status, 'null')
      using errcode = 'ST001',
            hint = 'can_transition_transfer_status() says what may follow what. ' || case NEW.status
              when 'completed' then 'record_completed_transfer() records a payment, reopen() goes on with a row that ended.'
              when 'reversal_pending' then 'request_reversal() takes what is paid, reopen() goes on with a row that ended.'
              when 'reversed' then 'mark_reversed() ends what is reversal_pending.'
              when 'permanently_failed' then 'give_up() ends what is open.'
              else 'reopen() goes on with a row that ended.' end,
            schema = tg_table_schema, table = tg_table_name, column = 'status';
  end if;
  return NEW;
end
$$;

comment on function marketplace.tg_seller_transfers__guard_transition() is
  'Refuses every birth and status change that the state machine does not list (ST001).';
