-- What the answers of Stripe's do to the rate budget of rate_budget.sql.

create or replace function marketplace._settle_budget(p_tokens uuid[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_unsent bigint;
  v_refused marketplace.transfer_attempts;
begin
  select count(*) into v_unsent from marketplace.transfer_attempts as a
  where a.lease_token = any (p_tokens) and a.kind = 'not_sent' and a.disposition = 'applied';
  update marketplace.stripe_control
  set tokens = least(tokens + v_unsent, burst)
  where v_unsent > 0 and rate is not null;

  select * into v_refused from marketplace.transfer_attempts as a
  where a.lease_token = any (p_tokens) and a.disposition = 'applied'
    and a.http_status = 429 and a.error_code = 'rate_limit'
  order by a.started_at desc
  limit 1;
  if found then
    perform marketplace._turn_rate_down(v_refused.started_at, format(
      'Stripe answered the call for transfer %s with 429 %s', v_refused.transfer_id, v_refused.error_code));
  end if;
end
$$;

comment on function marketplace._settle_budget(uuid[]) is
  'What outcomes just applied under these leases do to the budget: a call that was not made gives its token back, a 429 rate_limit turns the rate down.';

create or replace function marketplace._turn_rate_down(p_called_at timestamptz, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
  v_now timestamptz;
  v_before numeric;
  v_after numeric;
begin
  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  v_before := marketplace._rate_at(v_control, v_now);
  v_after := greatest(round(v_before / 2, 3), 1);
  -- Calls that were claimed at the old rate say nothing about the new one.
  if v_control.rate is null or v_after >= v_control.rate or p_called_at <= v_control.cut_at then
    return;
  end if;
  update marketplace.stripe_control
  set
    tokens = marketplace._tokens_now(v_control, v_now), tokens_at = v_now,
    cut_rate = v_after, cut_at = v_now;
  insert into marketplace.stripe_control_log (change, reason)
  values ('rate turned down', format(
    'from %s to %s calls a second: %s', trim_scale(v_before), trim_scale(v_after), p_reason));
end
$$;

comment on function marketplace._turn_rate_down(timestamptz, text) is
  'Halves the rate in force, to no less than one call a second, for a call that was claimed at p_called_at: once for all calls claimed before.';
