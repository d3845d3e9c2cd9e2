-- The rows of a claim: which may be leased, which were lost by the worker before, which can never be called for.

create or replace function marketplace._claimable_reversals(p_limit integer, p_now timestamptz, p_probe boolean)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids bigint[];
  v_refused text[];
begin
  -- p_now is a parameter: an inline clock_timestamp() is volatile, and no index condition.
  if not p_probe then
    return array(
      select t.id
      from marketplace.seller_transfers as t
      where t.status = 'reversal_pending' and t.parked_reason is null
        and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
      order by t.next_retry_at
      limit p_limit
      for no key update skip locked
    );
  end if;

  -- A trial call prefers another seller's row to those that were refused: many rows of one closed account must not be
  -- tried one after the other while everybody waits.
  v_refused := array(
    select distinct t.destination_account from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null and t.failure_code = 'configuration');
  v_ids := array(
    select t.id
    from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null
      and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
      and t.destination_account <> all (v_refused)
    order by t.next_retry_at
    limit p_limit
    for no key update skip locked
  );
  if v_ids = '{}' then
    return marketplace._claimable_reversals(p_limit, p_now, false);
  end if;
  return v_ids;
end
$$;

comment on function marketplace._claimable_reversals(integer, timestamptz, boolean) is
  'Locks and returns up to p_limit reversals that are due at p_now, not parked and not leased, in due order.';

create or replace function marketplace._note_lost_leases(p_ids bigint[], p_now timestamptz)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The worker never reported: its request may have been executed. The delay counts from the claim, so that a first
  -- loss is made good at once, and a row that costs every worker its life does not come first for ever.
  insert into marketplace.transfer_attempts
    (transfer_id, kind, action, idempotency_key, lease_token, worker, started_at, finished_at, verdict, disposition)
  select
    t.id, 'lost_lease', t.lease_action, marketplace._current_key(t), t.lease_token, t.leased_by, t.leased_at, p_now,
    'unknown', 'applied'
  from marketplace.seller_transfers as t
  where t.id = any (p_ids) and t.lease_token is not null
  order by t.id;
  if not found then
    return p_ids;
  end if;

  update marketplace.seller_transfers as t
  set
    call_unknown = true,
    call_last_sent_at = t.leased_at,
    streak = n.streak,
    streak_since = case t.streak_verdict when 'unknown' then t.streak_since else p_now end,
    streak_verdict = 'unknown',
    next_retry_at = greatest(t.next_retry_at, t.leased_at + marketplace._retry_delay('unknown', n.streak)),
    lease_token = null, leased_at = null, lease_expires_at = null, leased_by = null, lease_action = null
  from (
    select s.id, case s.streak_verdict when 'unknown' then s.streak + 1 else 1 end as streak
    from marketplace.seller_transfers as s
    where s.id = any (p_ids) and s.lease_token is not null
  ) as n
  where t.id = n.id and t.id = any (p_ids);
  return array(
    select t.id from marketplace.seller_transfers as t
    -- Not an index condition: these few rows are found by their ids.
    where t.id = any (p_ids) and coalesce(t.next_retry_at, p_now) <= p_now);
end
$$;

comment on function marketplace._note_lost_leases(bigint[], timestamptz) is
  'Ends the lapsed leases among these rows and writes them to transfer_attempts: the outcome of each is unknown. Returns the rows that are still due.';

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
    failure_code = 'missing_transfer_id',
    failure_message = 'The transfer was recorded without its Stripe id: no reversal can be asked for.'
  -- Not "is null", which would be looked up among all rows without an id instead of among these.
  where id = any (p_ids) and coalesce(stripe_transfer_id, '') = '';
end
$$;

comment on function marketplace._refuse_without_transfer_id(bigint[]) is
  'Ends the rows for which no call can be built; none of them is leased.';
