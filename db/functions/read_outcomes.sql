-- Reports as they come in: the frame must be right, the facts need not be.
--
-- A report without id or lease is refused, with all of its batch: it is a mistake of the program that made it. Facts
-- are what Stripe said, and Stripe may say anything: what cannot be read counts as not said, so that no answer stops a
-- batch.

create or replace function marketplace._clean_text(p_text text, p_limit integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(btrim(regexp_replace(left(p_text, p_limit), '[[:cntrl:]]+', ' ', 'g')), '');
end
$$;

comment on function marketplace._clean_text(text, integer) is
  'The text without control characters, cut to the limit; null if nothing is left.';

create or replace function marketplace._read_integer(p_value jsonb, p_least integer, p_most integer)
returns integer
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when jsonb_typeof(p_value) = 'number' and p_value::numeric between p_least and p_most
      and p_value::numeric = trunc(p_value::numeric) then p_value::numeric::integer
  end;
end
$$;

comment on function marketplace._read_integer(jsonb, integer, integer) is
  'The whole number, if it is one between the bounds; null otherwise.';

create or replace function marketplace._read_text(p_value jsonb, p_limit integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case jsonb_typeof(p_value) when 'string' then marketplace._clean_text(p_value #>> '{}', p_limit) end;
end
$$;

comment on function marketplace._read_text(jsonb, integer) is 'The text, cleaned, if it is one; null otherwise.';

create or replace function marketplace._require_outcomes(p_outcomes jsonb, p_actions text[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text := marketplace._why_no_list(p_outcomes, 0);
begin
  if p_outcomes is null then
    raise exception 'p_outcomes is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass a JSON array of outcomes.', column = 'p_outcomes';
  end if;
  if v_problem is null then
    select format('holds, at position %s, an outcome without id, lease_token or known action', o.n) into v_problem
    from jsonb_array_elements(p_outcomes) with ordinality as o (facts, n)
    where jsonb_typeof(o.facts) <> 'object'
      or jsonb_typeof(o.facts -> 'id') is distinct from 'number'
      or o.facts ->> 'action' is null or o.facts ->> 'action' <> all (p_actions)
      or jsonb_typeof(o.facts -> 'lease_token') is distinct from 'string'
    order by o.n
    limit 1;
  end if;
  if v_problem is not null then
    raise exception 'p_outcomes %', v_problem
      using errcode = 'invalid_parameter_value',
            hint = 'Pass up to 1000 outcomes, each with the id, action and lease_token that the claim returned.',
            column = 'p_outcomes';
  end if;
end
$$;

comment on function marketplace._require_outcomes(jsonb, text[]) is
  'Raises 22004 or 22023 for a report whose frame is wrong.';

create or replace function marketplace._read_outcomes(p_outcomes jsonb)
returns setof marketplace.stripe_outcome
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select
    (o.facts ->> 'id')::bigint,
    o.facts ->> 'action',
    (o.facts ->> 'lease_token')::uuid,
    -- Not said is not "not sent": only a plain false releases the lease as if nothing had happened.
    o.facts -> 'sent' is distinct from 'false'::jsonb,
    marketplace._read_integer(o.facts -> 'http_status', 100, 599),
    marketplace._read_text(o.facts -> 'error_type', 100),
    marketplace._read_text(o.facts -> 'error_code', 100),
    marketplace._read_text(o.facts -> 'error_message', 1000),
    marketplace._read_text(o.facts -> 'stripe_request_id', 255),
    o.facts -> 'replayed' is not distinct from 'true'::jsonb,
    marketplace._read_integer(o.facts -> 'duration_ms', 0, 2147483647),
    case jsonb_typeof(o.facts -> 'object') when 'object' then o.facts -> 'object' end,
    encode(sha256(convert_to(o.facts::text, 'UTF8')), 'hex'),
    case jsonb_typeof(o.facts -> 'found') when 'array' then o.facts -> 'found' end
  from jsonb_array_elements(p_outcomes) with ordinality as o (facts, n)
  order by o.n
$$;

comment on function marketplace._read_outcomes(jsonb) is
  'The outcomes of a report, in its order, cleaned and cut; a fact that cannot be read is null.';
