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
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select c.* from marketplace._claim_calls('reversals', p_worker, p_limit, p_lease) as c;
end
$$;

comment on function marketplace.claim_due_reversals(text, integer, interval) is
  'Leases up to p_limit due reversals to a worker and says for each what to do: reverse, with exactly what to send, or look_up_reversals. No row: nothing is due, calls are paused, or the rate budget is spent. Raises ST008 for a worker that is not registered, 25000 outside READ COMMITTED.';

create or replace function marketplace.claim_due_transfers(
  p_worker text, p_limit integer, p_lease interval default '60 s'
)
returns setof marketplace.stripe_call
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select c.* from marketplace._claim_calls('transfers', p_worker, p_limit, p_lease) as c;
end
$$;

comment on function marketplace.claim_due_transfers(text, integer, interval) is
  'Leases up to p_limit due transfers to a worker and says for each what to do: send, with exactly what to send, or look_up_transfer. No row: nothing is due, calls are paused, or the rate budget is spent. Raises ST008 for a worker that is not registered, 25000 outside READ COMMITTED.';

create or replace function marketplace._claim_calls(p_kind text, p_worker text, p_limit integer, p_lease interval)
returns setof marketplace.stripe_call
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
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
  -- Before the worker is noted as seen: that is what tells a standby of now from a state of long ago.
  v_control := marketplace._know_database(v_control, v_now);
  perform marketplace._require_registered(p_worker, v_now);
  if v_control.reconcile_needed_since is not null then
    perform marketplace._tell_of_change(v_control);
    return;
  end if;
  if v_control.paused_by is not null and coalesce(v_control.probe_at > v_now, true) then
    return;
  end if;
  if p_lease > v_control.longest_lease then
    v_control.longest_lease := p_lease;
    update marketplace.stripe_control set longest_lease = p_lease;
  end if;
  if v_now < marketplace._silent_until(v_control) then
    perform marketplace._tell_of_change(v_control);
    return;
  end if;
  v_affordable := marketplace._affordable_calls(
    v_control, case when v_control.paused_by is null then p_limit else 1 end, v_now);
  if v_affordable = 0 then
    return;
  end if;

  v_ids := marketplace._claimable(p_kind, v_affordable, v_now, v_control.paused_by is not null);
  if v_ids = '{}' then
    return;
  end if;
  v_ids := marketplace._note_lost_leases(v_ids, v_now);
  if p_kind = 'reversals' then
    perform marketplace._refuse_without_transfer_id(v_ids);
  end if;
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
        lease_action = marketplace._action(p_kind, t.id = any (v_looks)),
        call_params = case when t.id = any (v_looks) then t.call_params
          else coalesce(t.call_params, marketplace._call_params(t, v_control.database_id)) end
      where t.id = any (v_ids) and t.status <> 'permanently_failed' and t.parked_reason is null
      returning t.*
    )
    select
      l.id, l.lease_action, l.lease_token, v_lease_seconds,
      l.stripe_transfer_id, l.stripe_reversal_id, coalesce((l.call_params ->> 'amount')::bigint, l.amount), l.currency,
      l.destination_account, l.source_charge, l.call_params ->> 'transfer_group',
      marketplace._current_key(l),
      case when l.id <> all (v_looks) then l.call_params -> 'metadata' end,
      case when p_kind = 'transfers' then marketplace._looked_for_since(l) end
    from leased as l
    order by l.next_retry_at, l.id;
  get diagnostics v_claimed = row_count;
  perform marketplace._pay_for_calls(v_claimed, v_now);
  if v_claimed > 0 and v_control.paused_by = 'verdict' then
    perform marketplace._schedule_probe(v_now);
  end if;
end
$$;

comment on function marketplace._claim_calls(text, text, integer, interval) is
  'The claim of either kind, reversals or transfers: leases due rows and says what to do for each.';
