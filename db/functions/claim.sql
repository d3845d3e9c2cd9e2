-- Claiming: which rows a worker may call Stripe for, under a lease that expires.
--
-- Lock order: a claim locks stripe_control first, in a statement of its own, so that the next statement's snapshot sees every
-- lease that is committed by then; rows it takes with SKIP LOCKED and never waits for them. Outcomes lock rows by id first
-- and stripe_control after. A claim therefore waits for nobody who could wait for it.
--
-- Key and parameters are committed with the lease, before the call is made: whatever happens to the worker, the next one
-- sends the same bytes under the same key.

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

create or replace function marketplace._current_key(p_transfer marketplace.seller_transfers)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select marketplace._idempotency_key(
    marketplace._reversal_identity(
      c.database_id, p_transfer.stripe_transfer_id, p_transfer.reversal_request_id, p_transfer.call_part),
    p_transfer.call_generation)
  from marketplace.stripe_control as c
$$;

comment on function marketplace._current_key(marketplace.seller_transfers) is
  'The Idempotency-Key of the row''s current obligation and generation.';

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
  where id = any (p_ids) and stripe_transfer_id is null;
end
$$;

comment on function marketplace._refuse_without_transfer_id(bigint[]) is
  'Ends the rows for which no call can be built.';

create or replace function marketplace.claim_due_reversals(
  p_worker text, p_limit integer, p_lease interval default '60 s'
)
returns setof marketplace.stripe_call
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
  v_control marketplace.stripe_control;
  v_ids bigint[];
begin
  perform marketplace._require_claim_arguments(p_worker, p_limit, p_lease);
  perform marketplace._require_read_committed();

  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  if v_control.paused_by = 'person' or v_control.probe_at > v_now then
    return;
  end if;

  v_ids := marketplace._claimable_reversals(
    case when v_control.paused_by is null then p_limit else 1 end, v_now, v_control.paused_by is not null);
  if v_ids = '{}' then
    return;
  end if;
  if v_control.paused_by = 'verdict' then
    perform marketplace._schedule_probe(v_now);
  end if;
  perform marketplace._note_lost_leases(v_ids, v_now);
  perform marketplace._refuse_without_transfer_id(v_ids);

  return query
    with leased as (
      update marketplace.seller_transfers as t
      set
        lease_token = gen_random_uuid(),
        leased_at = v_now,
        lease_expires_at = v_now + p_lease,
        leased_by = p_worker,
        lease_action = 'reverse',
        call_params = coalesce(t.call_params, marketplace._reversal_params(t, v_control.database_id))
      where t.id = any (v_ids) and t.status = 'reversal_pending'
      returning t.*
    )
    select
      l.id, l.lease_action, l.lease_token, extract(epoch from p_lease)::double precision,
      l.stripe_transfer_id, l.stripe_reversal_id, (l.call_params ->> 'amount')::bigint, l.currency,
      l.destination_account, l.source_charge, null::text,
      marketplace._idempotency_key(
        marketplace._reversal_identity(
          v_control.database_id, l.stripe_transfer_id, l.reversal_request_id, l.call_part),
        l.call_generation),
      l.call_params -> 'metadata'
    from leased as l
    order by l.next_retry_at, l.id;
end
$$;

comment on function marketplace.claim_due_reversals(text, integer, interval) is
  'Leases up to p_limit due reversals to a worker and says exactly what to send for each. No row: nothing is due, or calls are paused. Raises 25000 outside READ COMMITTED.';

create or replace function marketplace._require_claim_arguments(p_worker text, p_limit integer, p_lease interval)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_worker', p_worker);
  if p_limit is null or p_lease is null then
    raise exception 'p_limit or p_lease is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass how many rows, and for how long.',
            column = case when p_limit is null then 'p_limit' else 'p_lease' end;
  end if;
  if p_limit not between 1 and 1000 then
    raise exception 'p_limit is %', p_limit
      using errcode = 'invalid_parameter_value', hint = 'Pass 1 to 1000.', column = 'p_limit';
  end if;
  if p_lease not between interval '1 millisecond' and interval '1 hour' then
    raise exception 'p_lease is %', p_lease
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a lease of at most one hour, longer than a call may take.', column = 'p_lease';
  end if;
end
$$;

comment on function marketplace._require_claim_arguments(text, integer, interval) is
  'Raises 22004 or 22023 for arguments of a claim that cannot be meant.';
