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
  -- A trial call prefers another seller's row to those that were refused: many rows of one closed account must not be
  -- tried one after the other while everybody waits.
  v_refused := case when p_probe then array(
    select distinct t.destination_account from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null and t.failure_code = 'configuration') end;

  -- p_now is a parameter: an inline clock_timestamp() is volatile, and no index condition.
  v_ids := array(
    select t.id
    from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null
      and t.next_retry_at <= p_now and (t.lease_expires_at is null or t.lease_expires_at <= p_now)
      and (v_refused is null or t.destination_account <> all (v_refused))
      and not marketplace._has_leased_sibling(t.id, t.root_id, p_now)
    order by t.next_retry_at
    limit p_limit
    for no key update skip locked
  );
  if v_ids = '{}' then
    return case when p_probe then marketplace._claimable_reversals(p_limit, p_now, false) else v_ids end;
  end if;
  -- Of several slices of one transfer, the one that has been due longest.
  return array(
    select f.id
    from (
      select distinct on (coalesce(t.root_id, t.id)) t.id, t.next_retry_at
      from marketplace.seller_transfers as t
      where t.id = any (v_ids)
      order by coalesce(t.root_id, t.id), t.next_retry_at, t.id
    ) as f
    order by f.next_retry_at, f.id);
end
$$;

comment on function marketplace._claimable_reversals(integer, timestamptz, boolean) is
  'Locks up to p_limit reversals that are due at p_now, not parked and not leased, in due order, and returns at most one of each Stripe transfer.';

create or replace function marketplace._has_leased_sibling(p_id bigint, p_root_id bigint, p_now timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Stripe answers two calls at once on one transfer with 429, and what one of them does changes what is left for the
  -- other.
  return exists (
    select from marketplace.seller_transfers as s
    where s.root_id = coalesce(p_root_id, p_id) and s.id <> p_id and s.lease_expires_at > p_now
  ) or (p_root_id is not null and exists (
    select from marketplace.seller_transfers as s where s.id = p_root_id and s.lease_expires_at > p_now
  ));
end
$$;

comment on function marketplace._has_leased_sibling(bigint, bigint, timestamptz) is
  'True if another row of the same Stripe transfer has a live lease.';

create or replace function marketplace._note_lost_leases(p_ids bigint[], p_now timestamptz)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The worker never reported: its request may have been executed; a look-up has changed nothing. The delay counts from
  -- the claim, so that a first loss is made good at once, and a row that costs every worker its life does not come first
  -- for ever.
  insert into marketplace.transfer_attempts
    (transfer_id, kind, action, idempotency_key, lease_token, worker, started_at, finished_at, verdict, disposition)
  select
    t.id, 'lost_lease', t.lease_action, marketplace._current_key(t), t.lease_token, t.leased_by, t.leased_at, p_now,
    case t.lease_action when 'reverse' then 'unknown' else 'unclear' end, 'applied'
  from marketplace.seller_transfers as t
  where t.id = any (p_ids) and t.lease_token is not null
  order by t.id;
  if not found then
    return p_ids;
  end if;

  update marketplace.seller_transfers as t
  set
    call_unknown = t.call_unknown or t.lease_action = 'reverse',
    call_absent_at = case when t.lease_action <> 'reverse' then t.call_absent_at end,
    -- The worker asks its clock for the end of the lease in the last line before it sends.
    call_last_sent_at = case t.lease_action when 'reverse' then t.lease_expires_at else t.call_last_sent_at end,
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
