-- What self_check() asks about functions: are they those that were loaded, and nothing else?

create or replace function marketplace._function_sha256(p_function oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not pg_get_functiondef(): each major words it in its own way.
  return (
    select encode(sha256(convert_to(concat_ws(e'\x1f',
      p.prosrc, l.lanname, p.prosecdef, p.provolatile, p.proisstrict, p.proretset, p.prokind, p.proparallel,
      format_type(p.prorettype, null), array_to_string(p.proargnames, ','), array_to_string(p.proconfig, ',')
    ), 'UTF8')), 'hex')
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_language as l on l.oid = p.prolang
    where p.oid = p_function);
end
$$;

comment on function marketplace._function_sha256(oid) is
  'SHA-256 of what a function does and how: its source, language, rights, settings and the names of its arguments.';

create or replace function marketplace._check_functions()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    with there as (
      select p.oid::regprocedure::text as signature, marketplace._function_sha256(p.oid) as sha256
      from pg_catalog.pg_proc as p
      where p.pronamespace = 'marketplace'::regnamespace
    )
    select
      case when n.signature is null then 'foreign function' when t.signature is null then 'function missing'
        else 'function replaced' end,
      coalesce(t.signature, n.signature),
      case when n.signature is null then 'it is in no file of this release'
        else format('loaded at %s by %s', n.loaded_at, n.loaded_by) end,
      case when n.signature is null then format('drop routine %s;', t.signature)
        else 'Run seller-transfers migrate, and find out who did it.' end
    from there as t
    full join marketplace.schema_functions as n on n.signature = t.signature
    where n.sha256 is distinct from t.sha256;
end
$$;

comment on function marketplace._check_functions() is
  'Functions that are not those which were loaded from the files, or that came from elsewhere; rows as of self_check.';

create or replace function marketplace.function_sources()
returns table (name text, source_sha256 text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select p.proname::text, encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'marketplace'::regnamespace;
end
$$;

comment on function marketplace.function_sources() is
  'Every function of the schema with the SHA-256 of its body, for a program that compares them with its own files.';
