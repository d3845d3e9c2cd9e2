-- What self_check() asks about rights: owners, grants beyond db/functions/zz_access.sql, logins without timeouts.

create or replace function marketplace._check_roles()
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select 'not the owner''s', o.object, format('owned by %s', o.owner::regrole),
      'Run seller-transfers migrate: it gives everything to marketplace_owner.'
    from marketplace._owned() as o
    where o.owner <> 'marketplace_owner'::regrole
    union all
    -- Nobody but the groups has anything, and they what zz_access.sql gives them.
    select 'open grant', o.object,
      format('%s may %s%s', case a.grantee when 0 then 'everybody' else a.grantee::regrole::text end,
        string_agg(distinct lower(a.privilege_type), ', ' order by lower(a.privilege_type)),
        case when bool_or(a.is_grantable) then ', and give it to others' end),
      case when a.grantee::regrole::text = any (marketplace._groups()) then 'Run seller-transfers migrate: each group then has what it is to have.'
        else format('revoke all on %s from %s;', o.object, case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
      end
    from marketplace._owned() as o
    cross join lateral aclexplode(o.acl) as a
    where a.grantee <> o.owner
      and (a.is_grantable or format('%s=%s', a.grantee::regrole, a.privilege_type) <> all (o.given))
    group by o.object, a.grantee
    union all
    select 'login without timeouts', r.rolname::text, string_agg(w.setting, ', ' order by w.setting),
      format('alter role %I set %s = ''%s'';', r.rolname, min(w.setting), min(w.value))
    from pg_catalog.pg_roles as r
    cross join (values
      ('statement_timeout', '30s'), ('lock_timeout', '5s'), ('idle_in_transaction_session_timeout', '30s')
    ) as w (setting, value)
    where r.rolcanlogin and not r.rolsuper
      and (pg_has_role(r.oid, 'marketplace_app', 'usage') or pg_has_role(r.oid, 'marketplace_runner', 'usage')
        or pg_has_role(r.oid, 'marketplace_readonly', 'usage'))
      and not pg_has_role(r.oid, 'marketplace_owner', 'usage')
      and not exists (
        select
        from pg_catalog.pg_db_role_setting as s
        inner join pg_catalog.pg_database as d on d.datname = current_database()
        cross join lateral unnest(s.setconfig) as c (setting)
        where s.setrole in (0, r.oid) and s.setdatabase in (0, d.oid) and c.setting like w.setting || '=%'
          and c.setting not like '%=0')
    group by r.rolname
    union all
    select 'event trigger missing', w.name, 'whoever migrated was no superuser',
      'Where you can, run seller-transfers migrate as a superuser: it makes the one that refuses to drop or disable guards.'
    from (values ('seller_transfers_count_guards'), ('seller_transfers_keep_guards')) as w (name)
    where not exists (
      select from pg_catalog.pg_event_trigger as e where e.evtname = w.name and e.evtenabled = 'A');
end
$$;

comment on function marketplace._check_roles() is 'What is not as it should be about owners, grants, logins and event triggers; rows as of self_check.';

create or replace function marketplace._owned()
returns table (object text, owner oid, acl aclitem[], given text[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_read constant text[] := array['marketplace_readonly=SELECT'];
begin
  return query
    select format('schema %I', n.nspname), n.nspowner, n.nspacl, array[
      'marketplace_app=USAGE', 'marketplace_runner=USAGE', 'marketplace_triage=USAGE', 'marketplace_readonly=USAGE']
    from pg_catalog.pg_namespace as n where n.nspname = 'marketplace'
    union all
    select format('%s %s', case c.relkind when 'S' then 'sequence' when 'c' then 'type' else 'table' end, c.oid::regclass),
      c.relowner, c.relacl,
      case when c.relkind in ('r', 'p', 'v') and c.relname <> 'stripe_events' then v_read else '{}' end
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S', 'c', 'f')
    union all
    select format('routine %s', p.oid::regprocedure), p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)),
      coalesce((
        select array(select r.role || '=EXECUTE' from unnest(n.callers) as r (role))
        from marketplace.schema_functions as n where n.signature = p.oid::regprocedure::text
      ), '{}')
    from pg_catalog.pg_proc as p where p.pronamespace = 'marketplace'::regnamespace
    union all
    select format('table %s', a.attrelid::regclass), c.relowner, a.attacl,
      case when c.relname <> 'stripe_events' or a.attname <> 'payload' then v_read else '{}' end
    from pg_catalog.pg_attribute as a
    inner join pg_catalog.pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'marketplace'::regnamespace and a.attacl is not null;
end
$$;

comment on function marketplace._owned() is
  'Everything in the schema with its owner, what was granted on it, and what is to be: group=PRIVILEGE.';
