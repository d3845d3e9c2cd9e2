-- Policy is data, and people change it at three in the morning: through functions that say what is wrong with a rule.

create or replace function marketplace.set_error_rule(
  p_priority integer, p_http_status integer, p_verdict text, p_note text,
  p_error_type text default null, p_error_code text default null, p_message_pattern text default null
)
returns setof marketplace.stripe_error_rules
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_allowed text[] := marketplace._verdicts_of_status(p_http_status);
begin
  perform marketplace._require_text('p_note', p_note, 1000);
  perform marketplace._require_text('p_verdict', p_verdict);
  if p_priority is null or p_priority < 1 then
    raise exception 'p_priority is %', coalesce(p_priority::text, 'missing')
      using errcode = case when p_priority is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass a whole number from 1 on: rules are tried in its order.', column = 'p_priority';
  end if;
  if v_allowed is null then
    raise exception 'p_http_status is %', coalesce(p_http_status::text, 'missing')
      using errcode = case when p_http_status is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass 400, 401, 402, 403, 404, 409 or 429: any other answer leaves open whether money moved, and no rule changes that.',
            column = 'p_http_status';
  end if;
  if p_verdict <> all (v_allowed) then
    raise exception 'a % cannot mean %', p_http_status, left(p_verdict, 60)
      using errcode = 'invalid_parameter_value', hint = format('Pass one of: %s.', array_to_string(v_allowed, ', ')),
            column = 'p_verdict';
  end if;
  if p_error_type is not null then
    perform marketplace._require_text('p_error_type', p_error_type, 100);
  end if;
  if p_error_code is not null then
    perform marketplace._require_text('p_error_code', p_error_code, 100);
  end if;
  perform marketplace._require_pattern('p_message_pattern', p_message_pattern);

  insert into marketplace.stripe_control_log (change, reason)
  values ('error rule set by person', left(format('%s: %s is %s: %s', p_priority, concat_ws(' ', p_http_status,
    p_error_type, p_error_code, p_message_pattern), p_verdict, p_note), 1000));
  return query
    insert into marketplace.stripe_error_rules as r
      (priority, http_status, error_type, error_code, message_pattern, verdict, note)
    values (p_priority, p_http_status, p_error_type, p_error_code, p_message_pattern, p_verdict, p_note)
    on conflict on constraint pk_stripe_error_rules do update set
      http_status = excluded.http_status, error_type = excluded.error_type, error_code = excluded.error_code,
      message_pattern = excluded.message_pattern, verdict = excluded.verdict, note = excluded.note
    returning r.*;
end
$$;

comment on function marketplace.set_error_rule(integer, integer, text, text, text, text, text) is
  'Adds the rule of that priority, or puts it in the place of the one there is; counts from the next outcome on. p_note says why. Raises 22004 and 22023 for what is no rule. Try it with classify_stripe_outcome().';

create or replace function marketplace._verdicts_of_status(p_http_status integer)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- As chk_rule_verdict_fits_its_status has it.
  return case
    when p_http_status = 401 then array['configuration']
    when p_http_status = 403 then array['configuration', 'transient']
    when p_http_status = 404 then array['configuration', 'not_found', 'transient']
    when p_http_status = 409 then array['throttled', 'conflict']
    when p_http_status = 429 then array['throttled']
    when p_http_status in (400, 402)
      then array['already_reversed', 'insufficient_balance', 'conflict', 'transient', 'configuration']
  end;
end
$$;

comment on function marketplace._verdicts_of_status(integer) is
  'What an error answer of that status can mean; null for a status that no rule may explain.';

create or replace function marketplace._require_pattern(p_name text, p_value text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value is null then
    return;
  end if;
  perform marketplace._require_text(p_name, p_value, 500);
  perform '' ~* p_value;
exception
  when invalid_regular_expression then
    raise exception '% is no regular expression: %', p_name, sqlerrm
      using errcode = 'invalid_parameter_value',
            hint = 'Pass a regular expression of PostgreSQL''s, such as ^No such transfer.', column = p_name;
end
$$;

comment on function marketplace._require_pattern(text, text) is
  'Raises 22023 for what is no regular expression of 1 to 500 characters; null is fine.';

create or replace function marketplace.remove_error_rule(p_priority integer, p_reason text)
returns setof marketplace.stripe_error_rules
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule marketplace.stripe_error_rules;
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  delete from marketplace.stripe_error_rules as r where r.priority = p_priority returning * into v_rule;
  if not found then
    raise exception 'there is no error rule %', coalesce(p_priority::text, 'null')
      using errcode = case when p_priority is null then 'null_value_not_allowed' else 'invalid_parameter_value' end,
            hint = 'Pass the priority of a row of marketplace.stripe_error_rules.', column = 'p_priority';
  end if;
  insert into marketplace.stripe_control_log (change, reason)
  values ('error rule removed by person', left(format('%s: %s', v_rule.priority, p_reason), 1000));
  return next v_rule;
end
$$;

comment on function marketplace.remove_error_rule(integer, text) is
  'Takes a rule away, and returns it. What no rule fits is transient (400, 402, 403, 404), configuration (401) or throttled (409, 429).';
