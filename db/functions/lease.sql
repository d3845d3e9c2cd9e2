-- The rows of a claim: which may be leased, which were lost by the worker before, which can never be called for.

create or replace function marketplace._claimable_reversals(p_limit integer, p_now timestamptz, p_probe boolean)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids bigint[];
begin
  -- p_now is a parameter: an inline clock_timestamp() is volatile, and no index condition.
  -- A probe prefers a row that was not itself refused for the key.
  v_ids := array(
    select t.id
    from marketplace.seller_transfers as t
    where t.status = 'reversal_pending'
      and t.parked_reason is null
      and t.next_retry_at <= p_now
      and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
      and (not p_probe or t.failure_code is distinct from 'configuration')
    order by t.next_retry_at
    limit p_limit
    for no key update skip locked
  );
  if p_probe and v_ids = '{}' then
    return marketplace._claimable_reversals(p_limit, p_now, false);
  end if;
  return v_ids;
end
$$;

comment on function marketplace._claimable_reversals(integer, timestamptz, boolean) is
  'Locks and returns up to p_limit reversals that are due at p_now, not parked and not leased, in due order.';

create or replace function marketplace._note_lost_leases(p_ids bigint[], p_now timestamptz)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  -- The worker never reported: its request may have been executed. The lapsed lease stays as evidence.
  with lost as (
    update marketplace.seller_transfers as t
    set
      call_unknown = true,
      call_last_sent_at = t.leased_at,
      streak = case t.streak_verdict when 'unknown' then t.streak + 1 else 1 end,
      streak_since = case t.streak_verdict when 'unknown' then t.streak_since else p_now end,
      streak_verdict = 'unknown'
    where t.id = any (p_ids) and t.lease_token is not null
    returning t.*
  )
  insert into marketplace.transfer_attempts
    (transfer_id, kind, action, idempotency_key, lease_token, worker, started_at, finished_at, verdict, disposition)
  select
    l.id, 'lost_lease', l.lease_action, marketplace._current_key(l), l.lease_token, l.leased_by, l.leased_at, p_now,
    'unknown', 'applied'
  from lost as l
  order by l.id
$$;

comment on function marketplace._note_lost_leases(bigint[], timestamptz) is
  'Writes to transfer_attempts which of these rows were lost by their worker; their outcome is unknown.';

create or replace function marketplace._park_held_reversals(p_ids bigint[], p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Stripe may forget a key after 24 hours and would then take the request for a new one, while it still holds the old.
  update marketplace.seller_transfers
  set parked_reason = format(
    'accepted: Stripe has held %s since %s; see at Stripe what became of it.', stripe_reversal_id, call_minted_at)
  where id = any (p_ids) and coalesce(stripe_reversal_id, '') <> '' and call_minted_at < p_now - interval '20 hours';
end
$$;

comment on function marketplace._park_held_reversals(bigint[], timestamptz) is
  'Parks the rows whose reversal Stripe accepted and still holds when their key is too old to be sent again.';

create or replace function marketplace._refuse_without_transfer_id(p_ids bigint[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.seller_transfers
  set
    status = 'permanently_failed',
    next_retry_at = null,
    lease_token = null, leased_at = null, lease_expires_at = null, leased_by = null, lease_action = null,
    failure_code = 'missing_transfer_id',
    failure_message = 'The transfer was recorded without its Stripe id: no reversal can be asked for.'
  -- Not "is null", which would be looked up among all rows without an id instead of among these.
  where id = any (p_ids) and coalesce(stripe_transfer_id, '') = '';
end
$$;

comment on function marketplace._refuse_without_transfer_id(bigint[]) is
  'Ends the rows for which no call can be built.';
