-- How many Stripe calls all runners together may make.
--
-- A bucket of tokens in stripe_control: `rate` of them come in a second, at most `burst` are kept, a claimed call costs
-- one. When Stripe says that it is too much, the rate is halved, and grows back to what was set within a minute.
-- Nothing runs by itself: what there is now follows from what there was and when. A moment in the future, because the
-- clock stepped back, counts as now.

create or replace function marketplace._rate_at(p_control marketplace.stripe_control, p_at timestamptz)
returns numeric
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_seconds numeric := extract(epoch from greatest(p_at - p_control.cut_at, interval '0'));
begin
  if p_control.cut_at is null then
    return p_control.rate;
  end if;
  return least(p_control.rate, round(p_control.cut_rate + p_control.rate * v_seconds / 60, 3));
end
$$;

comment on function marketplace._rate_at(marketplace.stripe_control, timestamptz) is
  'Calls a second in force at that moment; null: any number. After it was turned down, the rate grows by a sixtieth of itself each second.';

create or replace function marketplace._tokens_now(p_control marketplace.stripe_control, p_now timestamptz)
returns numeric
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- With the rate of when they were counted: rather a little less than what a growing rate has brought since.
  return least(
    case when p_control.rate is not null then p_control.burst end,
    p_control.tokens + marketplace._rate_at(p_control, p_control.tokens_at)
      * extract(epoch from greatest(p_now - p_control.tokens_at, interval '0')));
end
$$;

comment on function marketplace._tokens_now(marketplace.stripe_control, timestamptz) is
  'How many calls may be claimed now, with fractions; null: any number.';

create or replace function marketplace._next_token_at(p_control marketplace.stripe_control, p_now timestamptz)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_missing numeric := 1 - marketplace._tokens_now(p_control, p_now);
begin
  if v_missing is null or v_missing <= 0 then
    return p_now;
  end if;
  -- Up to the next millisecond, so that it is there then.
  return p_now + make_interval(
    secs => ceil(1000 * v_missing / marketplace._rate_at(p_control, p_control.tokens_at))::double precision / 1000);
end
$$;

comment on function marketplace._next_token_at(marketplace.stripe_control, timestamptz) is
  'When a call may be claimed: now, or when the next token is there.';

create or replace function marketplace._affordable_calls(
  p_control marketplace.stripe_control, p_limit integer, p_now timestamptz
)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The clock stepped back: left as they are, these would stand still until it has caught up.
  if p_control.tokens_at > p_now or p_control.cut_at > p_now then
    update marketplace.stripe_control
    set
      tokens_at = least(tokens_at, p_now),
      cut_at = case when cut_at > p_now then p_now else cut_at end;
  end if;
  return least(p_limit, floor(marketplace._tokens_now(p_control, p_now)))::integer;
end
$$;

comment on function marketplace._affordable_calls(marketplace.stripe_control, integer, timestamptz) is
  'How many of p_limit calls there are tokens for. p_control is locked.';

create or replace function marketplace._pay_for_calls(p_calls bigint, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.stripe_control as c
  set tokens = marketplace._tokens_now(c, p_now) - p_calls, tokens_at = p_now
  where p_calls > 0 and c.rate is not null;
end
$$;

comment on function marketplace._pay_for_calls(bigint, timestamptz) is
  'Takes the tokens for calls just claimed; there are enough.';
