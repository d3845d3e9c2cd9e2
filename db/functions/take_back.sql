-- What a request for its money does to a transfer, whatever state its rows are in.

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
  -- Not paid, and known not to be: the seller is not paid in the first place. Two steps, for that is the way the machine
  -- goes. The part names what would have to be sent if the request were withdrawn.
  update marketplace.seller_transfers set status = 'failed' where id = p_id and status = 'pending';
  update marketplace.seller_transfers
  set
    status = 'permanently_failed',
    reversal_request_id = p_reversal_request_id,
    call_part = marketplace._next_part(coalesce(root_id, id), p_reversal_request_id),
    next_retry_at = null,
    parked_reason = null,
    failure_code = 'refunded_before_transfer',
    failure_message = 'The order was refunded before the seller was paid; no transfer was made.'
  where id = p_id;
end
$$;

comment on function marketplace._give_up_unpaid(bigint, text) is 'Ends a row that is known not to be paid.';

create or replace function marketplace._take(p_root_id bigint, p_reversal_request_id text, p_wanted bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_amount bigint;
  v_taken bigint := 0;
begin
  for v_row in
    -- Unpaid ones first, and of these what waits for a person: nothing need be made at Stripe to take it.
    select f.* from marketplace._family(p_root_id) as f
    order by f.completed_at is not null, f.parked_reason is null, f.id
  loop
    exit when v_taken = p_wanted;
    continue when not marketplace._is_left(v_row);
    v_amount := least(v_row.amount, p_wanted - v_taken);
    perform marketplace._take_row(v_row, p_reversal_request_id, v_amount);
    v_taken := v_taken + v_amount;
  end loop;
  return v_taken;
end
$$;

comment on function marketplace._take(bigint, text, bigint) is
  'Takes up to p_wanted minor units of a transfer for a request, of what is left of it now: first unpaid rows, parked ones before others, which end, then paid ones, which are on their way back. Returns how much that was.';

create or replace function marketplace._take_back_family(
  p_root_id bigint, p_reversal_request_id text, p_asked bigint, p_later bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_asked bigint := p_asked;
  v_met bigint;
begin
  if v_asked is null then
    -- Given up with the money still at the seller: asked for, and not to be had by machine.
    v_asked := marketplace._available(p_root_id) + (
      select coalesce(sum(f.amount), 0) from marketplace._family(p_root_id) as f
      where f.status = 'permanently_failed' and f.completed_at is not null and not marketplace._is_followed(f.id));
  end if;
  if v_asked = 0 then
    return;
  end if;
  v_met := marketplace._take(p_root_id, p_reversal_request_id, v_asked - p_later);
  insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
  select p_reversal_request_id, r.id, marketplace._family_key(r), v_asked, v_met, v_asked - v_met
  from marketplace.seller_transfers as r where r.id = p_root_id;
end
$$;

comment on function marketplace._take_back_family(bigint, text, bigint, bigint) is
  'Moves p_asked of a transfer, null for all there is, towards being taken back for a request, and writes the request''s line: what is in flight, or more than is left, stays in it as unmet, and p_later of it in any case. What is already on its way back, or was never paid, is left alone.';

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
  where r.order_id = p_order_id and r.is_whole and r.withdrawn_at is null and not r.is_evidence
  order by r.requested_at, r.reversal_request_id limit 1;
  if not found then
    return;
  end if;
  v_before := marketplace._add_reason(
    format('%s %s was requested before the transfer was recorded', v_request.reason, v_request.reversal_request_id));
  perform marketplace._take_back_family(p_id, v_request.reversal_request_id, null, 0);
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._take_back_newborn(bigint, text) is
  'Takes a new transfer back if its whole order was refunded before.';
