-- What self_check() asks about the groups themselves: what they may do besides, and who is in them.

create or replace function marketplace._groups()
returns name[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array[
    'marketplace_owner', 'marketplace_app', 'marketplace_runner', 'marketplace_triage', 'marketplace_readonly'];
end
$$;

comment on function marketplace._groups() is 'The roles that come with the schema.';

create or replace function marketplace._check_groups()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'group logs in', r.rolname::text, null, format('alter role %I nologin;', r.rolname)
    from pg_catalog.pg_roles as r
    where r.rolname = any (marketplace._groups()) and r.rolcanlogin
    union all
    -- It may have been there before the schema.
    select 'group may more', r.rolname::text, concat_ws(', ',
        case when r.rolsuper then 'superuser' end, case when r.rolcreaterole then 'createrole' end,
        case when r.rolbypassrls then 'bypassrls' end, case when r.rolreplication then 'replication' end),
      format('alter role %I nosuperuser nocreaterole nobypassrls noreplication;', r.rolname)
    from pg_catalog.pg_roles as r
    where r.rolname = any (marketplace._groups())
      and (r.rolsuper or r.rolcreaterole or r.rolbypassrls or r.rolreplication)
    union all
    select 'group in a group', w.rolname::text, format('it is a member of %s', g.rolname),
      format('revoke %I from %I;', g.rolname, w.rolname)
    from pg_catalog.pg_auth_members as m
    inner join pg_catalog.pg_roles as g on g.oid = m.roleid and g.rolname = any (marketplace._groups())
    inner join pg_catalog.pg_roles as w on w.oid = m.member and w.rolname = any (marketplace._groups())
    where (w.rolname, g.rolname) <> ('marketplace_triage', 'marketplace_readonly')
    union all
    -- Whoever loaded the functions migrates; who else may do that only people know.
    select 'member of the owner', w.rolname::text, 'it may do everything in schema marketplace',
      format('Unless it is to migrate: revoke marketplace_owner from %I;', w.rolname)
    from pg_catalog.pg_auth_members as m
    inner join pg_catalog.pg_roles as w on w.oid = m.member
    where m.roleid = 'marketplace_owner'::regrole and not w.rolsuper and w.rolname <> all (marketplace._groups())
      and not exists (
        select
        from marketplace.schema_release as s
        inner join pg_catalog.pg_roles as r on r.rolname = s.loaded_by and not r.rolsuper
        where pg_has_role(r.oid, w.oid, 'member'))
    group by w.rolname
    union all
    select 'open grant', 'every table', format('%s may write: it has pg_write_all_data', w.rolname),
      format('revoke pg_write_all_data from %I;', w.rolname)
    from pg_catalog.pg_auth_members as m
    inner join pg_catalog.pg_roles as w on w.oid = m.member
    where m.roleid = 'pg_write_all_data'::regrole and not w.rolsuper
    group by w.rolname
    union all
    select 'open grant', 'what comes into schema marketplace',
      format('of what %s makes there, %s will have a right', d.defaclrole::regrole,
        string_agg(distinct case a.grantee when 0 then 'everybody' else a.grantee::regrole::text end, ', ')),
      'Take it back: alter default privileges for role … in schema marketplace revoke …; pg_default_acl has what was given.'
    from pg_catalog.pg_default_acl as d
    cross join lateral aclexplode(d.defaclacl) as a
    where d.defaclnamespace = 'marketplace'::regnamespace and a.grantee <> d.defaclrole
    group by d.defaclrole;
end
$$;

comment on function marketplace._check_groups() is
  'Groups that may more than their grants say, members of the owner, rights on everything or on what is to come; rows as of self_check.';
