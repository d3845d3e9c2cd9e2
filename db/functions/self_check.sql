-- Is this database what it should be? Rows are problems; no row is good news.

create or replace function marketplace.schema_state()
returns setof marketplace.schema_release
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select r.* from marketplace.schema_release as r
$$;

comment on function marketplace.schema_state() is 'What is installed: the newest migration and the SHA-256 of the loaded functions.';

create or replace function marketplace.self_check(p_with_log boolean default true)
returns table (problem text, object text, detail text, hint text, is_urgent boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select c.problem, c.object, c.detail, c.hint, true from marketplace._check_schema() as c
    union all
    select c.problem, c.object, c.detail, c.hint, true from marketplace._check_between() as c
    union all
    select c.problem, c.object, c.detail, c.hint, true from marketplace._check_functions() as c
    union all
    -- Where no superuser migrates, that is how it is.
    select c.problem, c.object, c.detail, c.hint, c.problem <> 'event trigger missing'
    from marketplace._check_roles() as c
    union all
    select c.problem, c.object, c.detail, c.hint, c.problem <> 'member of the owner'
    from marketplace._check_groups() as c
    union all
    select c.problem, c.object, c.detail, c.hint, c.problem <> 'sessions not visible'
    from marketplace._check_sessions(clock_timestamp()) as c
    union all
    select c.problem, c.object, c.detail, c.hint, true from marketplace._check_history(p_with_log) as c;
end
$$;

comment on function marketplace.self_check(boolean) is
  'One row per thing that is not as it should be, with the next step; none if all is well. Not urgent: what cannot be checked here, or only people know. p_with_log false: without verify_log(), which reads everything.';

create or replace function marketplace._check_history(p_with_log boolean)
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce(p_with_log, true) then
    return;
  end if;
  return query
    with found as (
      select v.*, row_number() over (order by v.transfer_id, v.log_id, v.attempt_id) as n
      from marketplace.verify_log() as v
    )
    select
      'history does not hold', coalesce('transfer ' || f.transfer_id, 'marketplace.prunings'),
      concat_ws(', ', f.problem, 'entry ' || f.log_id, 'attempt ' || f.attempt_id),
      'Somebody wrote past the guards, or an older database was restored in part: see the README, under "What a superuser can do".'
    from found as f
    where f.n <= 20
    union all
    select 'history does not hold', format('%s more', count(*) - 20), null, 'select * from marketplace.verify_log();'
    from found as f
    having count(*) > 20;
end
$$;

comment on function marketplace._check_history(boolean) is 'What verify_log() finds, the first twenty; rows as of self_check.';
