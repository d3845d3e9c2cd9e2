-- How long a runner may sleep.

create or replace function marketplace.next_due_in(p_kind text default null)
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_control marketplace.stripe_control;
  v_unleased timestamptz;
  v_leased timestamptz;
  v_due timestamptz;
begin
  if p_kind is not null and p_kind <> 'reversals' then
    raise exception 'p_kind is %', left(p_kind, 60)
      using errcode = 'invalid_parameter_value', hint = 'Pass reversals, or nothing for every kind.', column = 'p_kind';
  end if;
  select * into strict v_control from marketplace.stripe_control;
  if v_control.paused_by is not null and v_control.probe_at is null then
    return null;
  end if;

  select t.next_retry_at into v_unleased
  from marketplace.seller_transfers as t
  where t.status = 'reversal_pending' and t.parked_reason is null and t.lease_token is null
    and not marketplace._has_leased_sibling(t.id, t.root_id, v_now)
  order by t.next_retry_at
  limit 1;
  if v_unleased is null or v_unleased > v_now then
    -- All that is due is leased or waits for a leased one, so this reads little more than those.
    select min(t.lease_expires_at) into v_leased
    from marketplace.seller_transfers as t
    where t.status = 'reversal_pending' and t.parked_reason is null and t.next_retry_at <= v_now
      and t.lease_token is not null;
  end if;

  v_due := least(v_unleased, v_leased);
  if v_due is null then
    return null;
  end if;
  return greatest(
    v_due, v_control.probe_at, v_control.look_up_first_since + marketplace._silence(),
    marketplace._next_token_at(v_control, v_now)) - v_now;
end
$$;

comment on function marketplace.next_due_in(text) is
  'Until a claim could return a row, leases, pause, trial call and rate budget counted; null if there is none to wait for. p_kind: reversals, or null for every kind.';
