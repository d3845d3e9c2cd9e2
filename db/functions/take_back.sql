-- What a request for its money does to a transfer, whatever state its rows are in.

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
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._give_reason(
    concat_ws(': ', p_reason, nullif(current_setting('marketplace.reason', true), '')));
end
$$;

comment on function marketplace._add_reason(text) is 'As _give_reason; what the caller had said comes after it.';

create or replace function marketplace._begin_reversal(p_id bigint, p_reversal_request_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  update marketplace.seller_transfers
  set
    status = 'reversal_pending',
    reversal_request_id = p_reversal_request_id,
    next_retry_at = v_now,
    retry_count = 0,
    streak = 0, streak_verdict = null, streak_since = null, waiting_since = null,
    failure_code = null, failure_message = null,
    call_part = marketplace._next_part(coalesce(root_id, id), p_reversal_request_id),
    call_generation = 1, call_params = null, call_minted_at = v_now,
    call_last_sent_at = null, call_absent_at = null, call_replayed = false, call_unknown = false
  where id = p_id;
end
$$;

comment on function marketplace._begin_reversal(bigint, text) is
  'Sets a completed row on its way back: due at once, with a clean record, as the next part of the request.';

create or replace function marketplace._give_up_unpaid(p_id bigint, p_reversal_request_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
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
end
$$;

comment on function marketplace._give_up_unpaid(bigint, text) is 'Ends a row that was never sent.';

create or replace function marketplace._take_back_family(p_root_id bigint, p_reversal_request_id text, p_asked bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_id bigint;
  v_met bigint := 0;
  v_unmet bigint := 0;
begin
  for v_row in select f.* from marketplace._family(p_root_id) as f order by f.id loop
    if marketplace._is_left(v_row) then
      exit when v_met = p_asked;
      v_id := v_row.id;
      if v_row.amount > p_asked - v_met then
        v_row.amount := p_asked - v_met;
        v_id := marketplace._split_transfer(v_row.id, v_row.amount);
      end if;
      if v_row.status = 'completed' then
        perform marketplace._begin_reversal(v_id, p_reversal_request_id);
      else
        perform marketplace._give_up_unpaid(v_id, p_reversal_request_id);
      end if;
      v_met := v_met + v_row.amount;
    elsif p_asked is null and (
      v_row.status in ('pending', 'failed')
      or (v_row.status = 'permanently_failed' and v_row.completed_at is not null)
    ) then
      -- In flight, or given up with the money still at the seller: what was asked and not met stays in the line.
      v_unmet := v_unmet + v_row.amount;
    end if;
  end loop;

  if v_met + v_unmet > 0 then
    insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
    select p_reversal_request_id, r.id, r.transfer_key, v_met + v_unmet, v_met, v_unmet
    from marketplace.seller_transfers as r where r.id = p_root_id;
  end if;
end
$$;

comment on function marketplace._take_back_family(bigint, text, bigint) is
  'Moves p_asked of a transfer, null for all there is, towards being taken back for a request, in id order, and writes the request''s line. What is already on its way back, or was never paid, is left alone. That p_asked is left is the caller''s to know.';

create or replace function marketplace._take_back_newborn(p_id bigint, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_request marketplace.reversal_requests;
  v_before text;
begin
  -- A request for parts names its transfers; one for everything means those to come as well.
  select * into v_request from marketplace.reversal_requests as r
  where r.order_id = p_order_id and r.is_whole order by r.requested_at, r.reversal_request_id limit 1;
  if not found then
    return;
  end if;
  v_before := marketplace._add_reason(
    format('%s %s was requested before the transfer was recorded', v_request.reason, v_request.reversal_request_id));
  perform marketplace._take_back_family(p_id, v_request.reversal_request_id, null);
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._take_back_newborn(bigint, text) is
  'Takes a new transfer back if its whole order was refunded before.';
