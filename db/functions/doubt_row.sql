-- Proof of success for a row that does not know of it yet: what it proves is looked up before it is believed.

create or replace function marketplace._doubt_row(p_id bigint, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- As if it had been sent now, so that no look before this moment is a quiet one.
  update marketplace.seller_transfers
  set call_unknown = true, call_absent_at = null, call_last_sent_at = p_now, next_retry_at = least(next_retry_at, p_now)
  where id = p_id;
end
$$;

comment on function marketplace._doubt_row(bigint, timestamptz) is
  'Puts an open row in doubt that something proves to have been sent: it is looked for at once, and not sent again until it is quiet. The row is locked.';
