-- When to try again: the numbers are rows of retry_policy.

create or replace function marketplace._retry_delay(p_verdict text, p_streak integer)
returns interval
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- In seconds, with a bounded exponent: an interval overflows long before a streak does.
  return (
    select make_interval(secs => (1 + p.jitter::double precision * random()) * case
      when p_streak > p.slow_after then extract(epoch from p.slow_delay)::double precision
      else least(
        extract(epoch from p.max_delay)::double precision,
        extract(epoch from p.base_delay)::double precision * power(p.factor::double precision, least(p_streak - 1, 100)))
    end)
    from marketplace.retry_policy as p
    where p.verdict = p_verdict);
end
$$;

comment on function marketplace._retry_delay(text, integer) is
  'Delay after the p_streak-th equal verdict in a row (1 is the first), by retry_policy, with jitter; null for a verdict that has no schedule.';
