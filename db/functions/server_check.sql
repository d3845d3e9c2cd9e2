-- What of the server, and not of this schema, is not as it should be where money is kept.

create or replace function marketplace.server_check()
returns table (problem text, object text, detail text, hint text, is_urgent boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_database pg_catalog.pg_database;
  -- Vacuums against wraparound begin at 200 million; the server stops taking writes at two billion.
  v_many constant bigint := 1000000000;
begin
  select d.* into strict v_database from pg_catalog.pg_database as d where d.datname = current_database();
  return query
    select 'commits may be lost', s.name, s.name || ' is ' || s.setting,
      format('alter system set %I = on; select pg_reload_conf();', s.name), true
    from pg_catalog.pg_settings as s
    where s.name in ('fsync', 'full_page_writes', 'synchronous_commit') and s.setting = 'off'
    union all
    select 'vacuum is off', s.name, s.name || ' is off', format('alter system set %I = on; select pg_reload_conf();', s.name),
      true
    from pg_catalog.pg_settings as s
    where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
    union all
    select 'vacuum is off', c.oid::regclass::text, 'autovacuum is off for it',
      format('alter table %s reset (autovacuum_enabled);', c.oid::regclass), true
    from pg_catalog.pg_class as c
    cross join lateral unnest(c.reloptions) as o (setting)
    where c.relnamespace = 'marketplace'::regnamespace and o.setting ~* '^autovacuum_enabled=(false|off|no|0)$'
    union all
    select 'encoding', current_database()::text, pg_encoding_to_char(v_database.encoding),
      'Move to a database made with encoding ''UTF8'': Stripe''s texts do not fit into this one.', true
    where pg_encoding_to_char(v_database.encoding) <> 'UTF8'
    union all
    select 'isolation', 'default_transaction_isolation', current_setting('default_transaction_isolation'),
      format('alter database %I set default_transaction_isolation = ''read committed'';', current_database()), true
    where current_setting('default_transaction_isolation') <> 'read committed'
    union all
    select 'wraparound is near', current_database()::text,
      format('%s transactions, %s multixacts old', age(v_database.datfrozenxid), mxid_age(v_database.datminmxid)),
      'End old transactions, drop slots that nobody reads, and vacuum (freeze) the oldest tables, whichever these are.', true
    where age(v_database.datfrozenxid) > v_many or mxid_age(v_database.datminmxid) > v_many
    union all
    select 'slot that nobody reads', s.slot_name::text, format('%s slot, keeps log since %s', s.slot_type, s.restart_lsn),
      format('select pg_drop_replication_slot(%L);', s.slot_name), s.xmin is not null or s.catalog_xmin is not null
    from pg_catalog.pg_replication_slots as s
    where not s.active and (s.database is null or s.database = current_database())
    union all
    select 'clock was set back', 'transfer_status_log', format('entry %s is of %s, and it is %s', l.id, l.logged_at, clock_timestamp()),
      'Leases last longer than they say until the clock is right again: see to its time service.', true
    from (
      select e.id, e.logged_at from marketplace.transfer_status_log as e order by e.id desc limit 1
    ) as l
    where l.logged_at > clock_timestamp() + interval '1 second';
end
$$;

comment on function marketplace.server_check() is
  'One row per setting or state of the server that endangers what is kept here, with the next step; none if all is well. Apart from self_check(), for not everybody who may mend the schema may mend the server.';

create or replace function marketplace.read_clock()
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return clock_timestamp();
end
$$;

comment on function marketplace.read_clock() is 'What time it is by the database''s clock, which all times here are of.';
