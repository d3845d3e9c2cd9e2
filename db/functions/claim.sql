-- Claiming: which rows a worker may call Stripe for, under a lease that expires.
--
-- Lock order: a claim locks stripe_control first, in a statement of its own, so that the next statement's snapshot
-- sees every lease that is committed by then; rows it takes with SKIP LOCKED and never waits for them. Outcomes lock
-- rows by id first and stripe_control after. A claim therefore waits for nobody who could wait for it.
--
-- Key and parameters are committed with the lease, before the call is made: whatever happens to the worker, the next
-- one sends the same bytes under the same key.

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
  v_lease_seconds double precision := extract(epoch from p_lease);
  v_ids bigint[];
begin
  perform marketplace._require_claim_arguments(p_worker, p_limit, p_lease);
  perform marketplace._require_read_committed();

  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  if v_control.paused_by is not null and coalesce(v_control.probe_at > v_now, true) then
    return;
  end if;

  v_ids := marketplace._claimable_reversals(
    case when v_control.paused_by is null then p_limit else 1 end, v_now, v_control.paused_by is not null);
  if v_ids = '{}' then
    return;
  end if;
  v_ids := marketplace._note_lost_leases(v_ids, v_now);
  perform marketplace._refuse_without_transfer_id(v_ids);
  perform marketplace._park_held_reversals(v_ids, v_now);

  return query
    with leased as (
      update marketplace.seller_transfers as t
      set
        lease_token = gen_random_uuid(),
        leased_at = v_now,
        lease_expires_at = v_now + make_interval(secs => v_lease_seconds),
        leased_by = p_worker,
        lease_action = 'reverse',
        call_params = coalesce(t.call_params, marketplace._reversal_params(t, v_control.database_id))
      where t.id = any (v_ids) and t.status = 'reversal_pending' and t.parked_reason is null
      returning t.*
    )
    select
      l.id, l.lease_action, l.lease_token, v_lease_seconds,
      l.stripe_transfer_id, l.stripe_reversal_id, (l.call_params ->> 'amount')::bigint, l.currency,
      l.destination_account, l.source_charge, null::text,
      marketplace._current_key(l),
      l.call_params -> 'metadata'
    from leased as l
    order by l.next_retry_at, l.id;
  if found and v_control.paused_by = 'verdict' then
    perform marketplace._schedule_probe(v_now);
  end if;
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
  -- In seconds: to a calendar, months and days are not always the same.
  if extract(epoch from p_lease) not between 0.001 and 3600 then
    raise exception 'p_lease is %', p_lease
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a lease of at most one hour, longer than a call may take.', column = 'p_lease';
  end if;
end
$$;

comment on function marketplace._require_claim_arguments(text, integer, interval) is
  'Raises 22004 or 22023 for arguments of a claim that cannot be meant.';
