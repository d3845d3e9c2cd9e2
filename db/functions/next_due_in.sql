-- How long a runner may sleep.

create or replace function marketplace.next_due_in(p_kind text default null)
returns interval
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_control marketplace.stripe_control;
  v_due timestamptz;
begin
  if p_kind not in ('reversals', 'transfers') then
    raise exception 'p_kind is %', left(p_kind, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass reversals or transfers, or nothing for every kind.', column = 'p_kind';
  end if;
  select * into strict v_control from marketplace.stripe_control;
  if v_control.reconcile_needed_since is not null
    or (v_control.paused_by is not null and v_control.probe_at is null) then
    return null;
  end if;

  if coalesce(p_kind, 'reversals') = 'reversals' then
    v_due := marketplace._next_due_at('reversal_pending', v_now);
  end if;
  if coalesce(p_kind, 'transfers') = 'transfers' then
    v_due := least(
      v_due, marketplace._next_due_at('pending', v_now), marketplace._next_due_at('failed', v_now));
  end if;
  if v_due is null then
    return null;
  end if;
  return greatest(
    v_due, v_control.probe_at, marketplace._silent_until(v_control),
    marketplace._next_token_at(v_control, v_now)) - v_now;
end
$$;

comment on function marketplace.next_due_in(text) is
  'Until a claim could return a row, leases, pause, trial call, rate budget and the silence after a failover counted; null if there is none to wait for. p_kind: reversals, transfers, or null for every kind.';

create or replace function marketplace._next_due_at(p_status text, p_now timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_unleased timestamptz;
  v_leased timestamptz;
begin
  -- Dynamic, so that each status is planned with its own partial index.
  execute format($sql$
    select t.next_retry_at
    from marketplace.seller_transfers as t
    where t.status = %1$L and t.parked_reason is null and t.lease_token is null
      and (%1$L <> 'reversal_pending' or not marketplace._has_leased_sibling(t.id, t.root_id, $1))
    order by t.next_retry_at
    limit 1
  $sql$, p_status) into v_unleased using p_now;
  if v_unleased is null or v_unleased > p_now then
    -- All that is due is leased or waits for a leased one, so this reads little more than those. A lease that ran out
    -- brings nothing as long as another part of the transfer has one.
    execute format($sql$
      select min(greatest(
        t.lease_expires_at,
        case when %1$L = 'reversal_pending' then marketplace._siblings_leased_until(t.id, t.root_id, $1) end))
      from marketplace.seller_transfers as t
      where t.status = %1$L and t.parked_reason is null and t.next_retry_at <= $1
        and (t.lease_token is not null or %1$L = 'reversal_pending')
    $sql$, p_status) into v_leased using p_now;
  end if;
  return least(v_unleased, v_leased);
end
$$;

comment on function marketplace._next_due_at(text, timestamptz) is
  'When the first row of this status may be claimed: it is due, or a lease ends; null if there is none.';
