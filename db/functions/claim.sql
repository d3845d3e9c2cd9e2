-- Claiming: which rows a worker may call Stripe for, under a lease that expires.
--
-- Lock order: a claim locks stripe_control first, in a statement of its own, so that the next statement's snapshot
-- sees every lease that is committed by then; rows it takes with SKIP LOCKED and never waits for them. Outcomes lock
-- rows by id first, stripe_control after and runners last. A claim therefore waits for nobody who could wait for it.
--
-- Key and parameters are committed with the lease, before the call is made: whatever happens to the worker, whoever
-- sends again sends the same bytes under the same key. Never two live leases on one Stripe transfer: the lock on
-- stripe_control makes claims follow one another, so each sees the leases of those before.

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
  v_affordable integer;
  v_claimed bigint;
  v_ids bigint[];
  v_looks bigint[];
begin
  perform marketplace._require_claim_arguments(p_worker, p_limit, p_lease);
  perform marketplace._require_read_committed();

  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  perform marketplace._require_registered(p_worker, v_now);
  if v_control.paused_by is not null and coalesce(v_control.probe_at > v_now, true) then
    return;
  end if;
  if v_now < v_control.look_up_first_since + greatest(2 * p_lease, marketplace._silence()) then
    -- Leases that a lost history gave out may still be live.
    return;
  end if;
  v_affordable := marketplace._affordable_calls(
    v_control, case when v_control.paused_by is null then p_limit else 1 end, v_now);
  if v_affordable = 0 then
    return;
  end if;

  v_ids := marketplace._claimable_reversals(v_affordable, v_now, v_control.paused_by is not null);
  if v_ids = '{}' then
    return;
  end if;
  v_ids := marketplace._note_lost_leases(v_ids, v_now);
  perform marketplace._refuse_without_transfer_id(v_ids);
  v_looks := array(
    select t.id from marketplace.seller_transfers as t
    where t.id = any (v_ids) and marketplace._must_look(t, v_control, v_now));

  return query
    with leased as (
      update marketplace.seller_transfers as t
      set
        lease_token = gen_random_uuid(),
        leased_at = v_now,
        lease_expires_at = v_now + make_interval(secs => v_lease_seconds),
        leased_by = p_worker,
        lease_action = case when t.id = any (v_looks) then 'look_up_reversals' else 'reverse' end,
        call_params = case when t.id = any (v_looks) then t.call_params
          else coalesce(t.call_params, marketplace._reversal_params(t, v_control.database_id)) end
      where t.id = any (v_ids) and t.status = 'reversal_pending' and t.parked_reason is null
      returning t.*
    )
    select
      l.id, l.lease_action, l.lease_token, v_lease_seconds,
      l.stripe_transfer_id, l.stripe_reversal_id, coalesce((l.call_params ->> 'amount')::bigint, l.amount), l.currency,
      l.destination_account, l.source_charge, null::text,
      marketplace._current_key(l),
      case l.lease_action when 'reverse' then l.call_params -> 'metadata' end
    from leased as l
    order by l.next_retry_at, l.id;
  get diagnostics v_claimed = row_count;
  perform marketplace._pay_for_calls(v_claimed, v_now);
  if v_claimed > 0 and v_control.paused_by = 'verdict' then
    perform marketplace._schedule_probe(v_now);
  end if;
end
$$;

comment on function marketplace.claim_due_reversals(text, integer, interval) is
  'Leases up to p_limit due reversals to a worker and says for each what to do: reverse, with exactly what to send, or look_up_reversals. No row: nothing is due, calls are paused, or the rate budget is spent. Raises ST008 for a worker that is not registered, 25000 outside READ COMMITTED.';

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
