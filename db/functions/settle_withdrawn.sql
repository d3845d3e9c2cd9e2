-- What becomes of a row whose request was withdrawn: the seller has, or gets, the money again.
--
-- Each row is settled once, and only when it is known what became of it: reversed, it is given back by a transfer of
-- its own; not made, it is given up, and a successor has the money, or is sent it where nothing was paid because of the
-- request. A row in flight is looked up until it is one or the other, and comes here again then.

create or replace function marketplace._settle_withdrawn(p_id bigint, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_request marketplace.reversal_requests;
  v_reason text;
  v_new bigint;
begin
  select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
  if v_row.reversal_request_id is null then
    return;
  end if;
  select r.* into v_request from marketplace.reversal_requests as r
  where r.reversal_request_id = v_row.reversal_request_id and (r.withdrawn_at is not null or r.is_evidence);
  if not found or marketplace._is_followed(p_id) then
    return;
  end if;

  if v_request.withdrawn_at is not null then
    v_reason := format('%s was withdrawn: %s', v_request.reversal_request_id, v_request.withdrawn_reason);
  else
    v_reason := format('no reversal made elsewhere explains %s', v_request.reversal_request_id);
  end if;
  if v_row.status = 'reversed' and v_request.withdrawn_at is not null then
    v_new := marketplace._compensate(v_row, v_reason, p_now);
  elsif v_row.status = 'reversal_pending' and marketplace._is_certainly_not_made(v_row, v_request.is_evidence) then
    perform marketplace._write_settled(marketplace._give_up_row(
      v_row, case when v_request.withdrawn_at is null then 'not_reversed' else 'request_withdrawn' end,
      'Not taken back: ' || v_reason));
    v_new := marketplace._succeed(v_row, null, v_row.stripe_transfer_id, v_reason, p_now);
  elsif v_row.status = 'permanently_failed' and v_row.completed_at is not null then
    v_new := marketplace._succeed(v_row, null, v_row.stripe_transfer_id, v_reason, p_now);
  elsif v_row.status = 'permanently_failed' and v_row.failure_code = 'refunded_before_transfer' then
    v_new := marketplace._resume(v_row, v_reason, p_now);
  end if;
  if v_new is not null then
    if v_row.completed_at is not null and (v_row.status = 'permanently_failed' or v_row.successor_of is not null) then
      -- What others took of it while it was given up found nothing that it could be taken from.
      perform marketplace._hear_again(v_row.stripe_transfer_id, v_row.order_id);
    end if;
    perform marketplace._offer_row(v_new);
    perform pg_notify('seller_transfers_due', '');
  end if;
end
$$;

comment on function marketplace._settle_withdrawn(bigint, timestamptz) is
  'Settles a row of a withdrawn request, or of one that was evidence only, if it is known what became of it and nothing was made for it yet. Any other row is left alone. The row and its order are locked.';

create or replace function marketplace._is_followed(p_id bigint)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from marketplace.seller_transfers as t where t.successor_of = p_id)
    or exists (select from marketplace.seller_transfers as t where t.compensates = p_id);
end
$$;

comment on function marketplace._is_followed(bigint) is 'True if a row has taken over from this one, or gives it back.';

create or replace function marketplace._is_certainly_not_made(
  p_row marketplace.seller_transfers, p_must_have_looked boolean
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lost_until timestamptz := marketplace._lost_until();
begin
  -- A lease that ran out is as good as a request under way, and a parked row has something that only a person can tell.
  -- But for one that says that what a person named was not it. What somebody named is to be looked for first.
  if p_row.lease_token is not null or p_row.call_unknown or p_row.stripe_reversal_id is not null
    or coalesce(not starts_with(p_row.parked_reason, 'refuted:'), false) or p_row.named_reversal_id is not null
    or (p_must_have_looked and p_row.call_absent_at is null) then
    return false;
  end if;
  -- What was seen before then is no proof.
  return v_lost_until is null or coalesce(p_row.call_absent_at >= v_lost_until, false);
end
$$;

comment on function marketplace._is_certainly_not_made(marketplace.seller_transfers, boolean) is
  'True if nothing that was sent for the open reversal has been made or still may be. p_must_have_looked: only after a look-up that found nothing.';
