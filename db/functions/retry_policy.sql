-- When to try again, and when to give up: the numbers, as a person changes them.

create or replace function marketplace.set_retry_policy(
  p_verdict text, p_reason text,
  p_base_delay interval default null, p_factor numeric default null, p_max_delay interval default null,
  p_jitter numeric default null, p_slow_after integer default null, p_slow_delay interval default null,
  p_max_retries integer default null, p_max_age interval default null,
  p_quiet interval default null, p_key_max_age interval default null
)
returns setof marketplace.retry_policy
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy marketplace.retry_policy;
  v_constraint text;
  v_table text;
begin
  perform marketplace._require_text('p_verdict', p_verdict);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_delay('p_base_delay', p_base_delay, interval '100 milliseconds', interval '30 days');
  perform marketplace._require_delay('p_max_delay', p_max_delay, interval '100 milliseconds', interval '30 days');
  perform marketplace._require_delay('p_slow_delay', p_slow_delay, interval '100 milliseconds', interval '30 days');
  perform marketplace._require_delay('p_max_age', p_max_age, interval '1 minute', interval '1 year');
  -- What is still on its way must have arrived, or be dead: neither of these may be true by a hair.
  perform marketplace._require_delay('p_quiet', p_quiet, interval '10 minutes', interval '30 days');
  perform marketplace._require_delay('p_key_max_age', p_key_max_age, interval '1 minute', interval '20 hours');
  perform marketplace._require_number('p_factor', p_factor, 1, 10);
  perform marketplace._require_number('p_jitter', p_jitter, 0, 1);
  perform marketplace._require_number('p_slow_after', p_slow_after, 1, 1000);
  perform marketplace._require_number('p_max_retries', p_max_retries, 0, 1000);
  update marketplace.retry_policy as p
  set
    base_delay = coalesce(p_base_delay, p.base_delay), factor = coalesce(p_factor, p.factor),
    max_delay = coalesce(p_max_delay, p.max_delay), jitter = coalesce(p_jitter, p.jitter),
    slow_after = coalesce(p_slow_after, p.slow_after), slow_delay = coalesce(p_slow_delay, p.slow_delay),
    max_retries = coalesce(p_max_retries, p.max_retries), max_age = coalesce(p_max_age, p.max_age),
    quiet = coalesce(p_quiet, p.quiet), key_max_age = coalesce(p_key_max_age, p.key_max_age)
  where p.verdict = p_verdict
  returning * into v_policy;
  if not found then
    raise exception 'there is no retry policy for %', left(p_verdict, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass the verdict of a row of marketplace.retry_policy.', column = 'p_verdict';
  end if;
  insert into marketplace.stripe_control_log (change, reason)
  values ('retry policy set by person', left(format('%s: %s: %s', p_verdict, (
    select string_agg(format('%s %s', n.key, n.value), ', ' order by n.key)
    from jsonb_each_text(jsonb_strip_nulls(jsonb_build_object(
      'base_delay', p_base_delay, 'factor', p_factor, 'max_delay', p_max_delay, 'jitter', p_jitter,
      'slow_after', p_slow_after, 'slow_delay', p_slow_delay, 'max_retries', p_max_retries, 'max_age', p_max_age,
      'quiet', p_quiet, 'key_max_age', p_key_max_age))) as n), p_reason), 1000));
  return next v_policy;
exception
  when check_violation then
    get stacked diagnostics v_constraint = constraint_name, v_table = table_name;
    if v_table <> 'retry_policy' then
      raise;
    end if;
    raise exception 'the policy for % would not be sound: %', p_verdict, v_constraint
      using errcode = 'invalid_parameter_value',
            hint = obj_description((
              select k.oid from pg_catalog.pg_constraint as k
              where k.conname = v_constraint and k.conrelid = 'marketplace.retry_policy'::regclass), 'pg_constraint'),
            schema = 'marketplace', table = 'retry_policy', constraint = v_constraint;
end
$$;

comment on function marketplace.set_retry_policy(
  text, text, interval, numeric, interval, numeric, integer, interval, integer, interval, interval, interval
) is 'Changes what is named of the policy for a verdict, and returns it; counts from the next outcome on. Raises 22023 for delays that shrink, a budget where there may be none, a quiet below 10 minutes.';

create or replace function marketplace._require_delay(
  p_name text, p_value interval, p_least interval, p_most interval
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value not between p_least and p_most then
    raise exception '% is %', p_name, p_value
      using errcode = 'invalid_parameter_value', hint = format('Pass %s to %s.', p_least, p_most), column = p_name;
  end if;
end
$$;

comment on function marketplace._require_delay(text, interval, interval, interval) is
  'Raises 22023 for a time outside the bounds; null is fine.';

create or replace function marketplace._require_number(
  p_name text, p_value numeric, p_least numeric, p_most numeric
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value not between p_least and p_most then
    raise exception '% is %', p_name, left(p_value::text, 60)
      using errcode = 'invalid_parameter_value', hint = format('Pass %s to %s.', p_least, p_most), column = p_name;
  end if;
end
$$;

comment on function marketplace._require_number(text, numeric, numeric, numeric) is
  'Raises 22023 for a number outside the bounds; null is fine.';
