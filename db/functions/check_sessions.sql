-- What self_check() asks about sessions: who holds back the vacuum, or everybody; and a migrator that died.

create or replace function marketplace._check_sessions(p_now timestamptz)
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    -- Under an old transaction no finished row leaves its index, and claims become slow.
    select
      case when a.state like 'idle in transaction%' then 'idle in transaction' else 'old transaction' end,
      format('pid %s', a.pid),
      format('%s, %s, begun at %s, %s since %s', a.usename, a.application_name, a.xact_start, a.state, a.state_change),
      format('select pg_terminate_backend(%s);', a.pid)
    from pg_catalog.pg_stat_activity as a
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
      and (a.xact_start < p_now - interval '10 minutes'
        or (a.state like 'idle in transaction%' and a.state_change < p_now - interval '5 minutes'))
    union all
    select 'old prepared transaction', p.gid, format('%s, prepared at %s', p.owner, p.prepared),
      format('rollback prepared %L;', p.gid)
    from pg_catalog.pg_prepared_xacts as p
    where p.database = current_database() and p.prepared < p_now - interval '10 minutes'
    union all
    select 'sessions not visible', 'pg_stat_activity', 'old transactions of other roles are not seen',
      'As an administrator: grant pg_read_all_stats to marketplace_owner;'
    where not pg_has_role(current_user, 'pg_read_all_stats', 'usage')
    union all
    select l.problem, l.object, l.detail, l.hint from marketplace._check_yoyo_lock(p_now) as l;
end
$$;

comment on function marketplace._check_sessions(timestamptz) is
  'Transactions open for ten minutes, sessions idle in one for five, a lock that a dead migrator left; rows as of self_check.';

create or replace function marketplace._check_yoyo_lock(p_now timestamptz)
returns table (problem text, object text, detail text, hint text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass;
  v_pid integer;
  v_since timestamp without time zone;
begin
  -- yoyo makes its tables where the migrating role's search_path begins. Only one of whoever may migrate is read: a
  -- table can bring code along (types, policies), which would run with the owner's rights.
  select c.oid::regclass into v_table
  from pg_catalog.pg_class as c
  where c.relname = 'yoyo_lock' and c.relkind = 'r' and c.relpersistence <> 't'
    and pg_has_role(c.relowner, 'marketplace_owner', 'member') and has_table_privilege(c.oid, 'select')
  order by c.oid
  limit 1;
  if v_table is null or exists (
    -- The lock of runner/migrate.py: somebody is migrating.
    select from pg_catalog.pg_locks as k
    where k.locktype = 'advisory' and k.objsubid = 1 and k.classid = 0 and k.objid = x'5E11E12'::integer::oid
      and k.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
  ) then
    return;
  end if;
  execute format(
    'select y.pid, y.ctime from %s as y where y.ctime at time zone ''UTC'' < $1 order by y.ctime limit 1', v_table)
  into v_pid, v_since using p_now - interval '10 minutes';
  return query
    select 'stale lock', v_table::text, format('pid %s since %s UTC', v_pid, v_since),
      'Run seller-transfers migrate: it takes over. For plain yoyo: yoyo break-lock.'
    where v_since is not null;
end
$$;

comment on function marketplace._check_yoyo_lock(timestamptz) is
  'A row in yoyo''s lock table that is older than ten minutes, while nobody migrates: plain yoyo would wait for it for ever.';
