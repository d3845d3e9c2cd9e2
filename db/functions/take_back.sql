-- What a request for its money does to one transfer, whatever state it is in.

create or replace function marketplace._give_reason(p_reason text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text := coalesce(current_setting('marketplace.reason', true), '');
begin
  perform set_config('marketplace.reason', coalesce(p_reason, ''), true);
  return v_before;
end
$$;

comment on function marketplace._give_reason(text) is
  'Sets marketplace.reason, which the status log quotes, for the rest of the transaction; returns what it was before.';

create or replace function marketplace._add_reason(p_reason text)
returns text
language sql
set search_path = pg_catalog, pg_temp
as $$
  select marketplace._give_reason(concat_ws(': ', p_reason, nullif(current_setting('marketplace.reason', true), '')))
$$;

comment on function marketplace._add_reason(text) is 'As _give_reason; what the caller had said comes after it.';

create or replace function marketplace._take_back(p_id bigint, p_reversal_request_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row marketplace.seller_transfers;
  v_met boolean;
begin
  select * into strict v_row from marketplace.seller_transfers as t where t.id = p_id for update;

  if v_row.status = 'completed' then
    update marketplace.seller_transfers
    set
      status = 'reversal_pending',
      reversal_request_id = p_reversal_request_id,
      next_retry_at = v_now,
      retry_count = 0,
      streak = 0, streak_verdict = null, streak_since = null,
      failure_code = null, failure_message = null,
      call_part = 1, call_generation = 1, call_params = null, call_minted_at = v_now,
      call_last_sent_at = null, call_replayed = false, call_unknown = false
    where id = p_id;
    v_met := true;
  elsif v_row.status in ('pending', 'failed')
    and v_row.lease_token is null and v_row.call_last_sent_at is null and not v_row.call_unknown then
    -- Never sent: the seller is not paid in the first place. Two steps, for that is the way the machine goes.
    update marketplace.seller_transfers set status = 'failed' where id = p_id and status = 'pending';
    update marketplace.seller_transfers
    set
      status = 'permanently_failed',
      reversal_request_id = p_reversal_request_id,
      next_retry_at = null,
      parked_reason = null,
      failure_code = 'refunded_before_transfer',
      failure_message = 'The order was refunded before the seller was paid; nothing was sent.'
    where id = p_id;
    v_met := true;
  elsif v_row.status in ('pending', 'failed') or (v_row.status = 'permanently_failed' and v_row.completed_at is not null) then
    -- In flight, or given up with the money still at the seller: what was asked and not met stays in the line.
    v_met := false;
  else
    return;
  end if;

  insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
  values (
    p_reversal_request_id, p_id, v_row.transfer_key, v_row.amount,
    case when v_met then v_row.amount else 0 end, case when v_met then 0 else v_row.amount end
  )
  on conflict on constraint pk_reversal_request_lines do nothing;
end
$$;

comment on function marketplace._take_back(bigint, text) is
  'Moves one transfer towards being taken back for a request and writes the request''s line; a transfer already on its way back, or never paid, is left alone.';

create or replace function marketplace._take_back_newborn(p_id bigint, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request marketplace.reversal_requests;
  v_before text;
begin
  select * into v_request from marketplace.reversal_requests as r
  where r.order_id = p_order_id order by r.requested_at, r.reversal_request_id limit 1;
  if not found then
    return;
  end if;
  v_before := marketplace._add_reason(
    format('%s %s was requested before the transfer was recorded', v_request.reason, v_request.reversal_request_id));
  perform marketplace._take_back(p_id, v_request.reversal_request_id);
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._take_back_newborn(bigint, text) is
  'Takes a new transfer back if its order was refunded before.';
