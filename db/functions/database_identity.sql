-- Which database this is: what a promoted standby, a restored dump and a clone each have otherwise.
--
--                              system identifier   timeline   database   table
--   restart, crash                    same           same       same      same
--   standby that was promoted         same           next       same      same
--   restored to a point in time       same           next       same      same
--   restored dump, major upgrade      other, or the table's or the database's oid is
--   clone within the server           same           same       other     same
--   copy of the disk, started         same           same       same      same: nobody can tell; see require_reconcile
--
-- After a promotion pg_control_checkpoint() still tells the old timeline; the name of the WAL file being written does
-- not.

create or replace function marketplace._database_identity(
  out system_identifier text, out wal_timeline integer, out database_oid oid, out table_oid oid
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A service may keep these from us, or have nothing like them: then they are null.
  begin
    system_identifier := (select c.system_identifier::text from pg_control_system() as c);
    wal_timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
  exception
    when insufficient_privilege or undefined_function or feature_not_supported then
      null;
  end;
  database_oid := (select d.oid from pg_database as d where d.datname = current_database());
  table_oid := to_regclass('marketplace.seller_transfers');
end
$$;

comment on function marketplace._database_identity() is
  'Which database this is now. Null: the server does not tell. Not on a standby.';

create or replace function marketplace._identity_in_words(
  p_system_identifier text, p_wal_timeline integer, p_database_oid oid, p_table_oid oid
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return format(
    'system identifier %s, timeline %s, database %s, table %s', coalesce(p_system_identifier, 'not told'),
    coalesce(p_wal_timeline::text, 'not told'), p_database_oid, p_table_oid);
end
$$;

comment on function marketplace._identity_in_words(text, integer, oid, oid) is 'Which database, as the log has it.';

create or replace function marketplace._is_database_pinned(p_control marketplace.stripe_control)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is record;
begin
  select * into v_is from marketplace._database_identity();
  -- What was not told when it was pinned, on a person's word, is not compared.
  return coalesce(
    p_control.database_oid = v_is.database_oid and p_control.table_oid = v_is.table_oid
    and (p_control.system_identifier is null or p_control.system_identifier is not distinct from v_is.system_identifier)
    and (p_control.wal_timeline is null or p_control.wal_timeline is not distinct from v_is.wal_timeline),
    false);
end
$$;

comment on function marketplace._is_database_pinned(marketplace.stripe_control) is
  'True if this is the database that was pinned.';

create or replace function marketplace._pin_database(p_change text, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
  v_is record;
begin
  select * into v_is from marketplace._database_identity();
  select * into strict v_control from marketplace.stripe_control;
  if num_nulls(v_is.system_identifier, v_is.wal_timeline) > 0 and v_control.identity_on_trust is null then
    raise exception 'this server does not tell who it is: pg_control_system() or pg_current_wal_lsn() cannot be used'
      using errcode = 'ST013',
            hint = 'Grant execute on pg_control_system(), pg_current_wal_lsn() and pg_walfile_name(pg_lsn) to the owner of schema marketplace. Where that cannot be had, a failover is not noticed: call trust_database_identity, and after each failover that may have lost commits look_up_first.';
  end if;
  insert into marketplace.stripe_control_log (change, reason)
  values (p_change, left(concat_ws('; ', p_reason, 'now ' || marketplace._identity_in_words(
    v_is.system_identifier, v_is.wal_timeline, v_is.database_oid, v_is.table_oid)), 1000));
  update marketplace.stripe_control
  set
    system_identifier = v_is.system_identifier, wal_timeline = v_is.wal_timeline,
    database_oid = v_is.database_oid, table_oid = v_is.table_oid;
end
$$;

comment on function marketplace._pin_database(text, text) is
  'Keeps which database this is, and logs it as p_change. stripe_control is locked. Raises ST013 if the server does not tell and nobody said that it need not.';

create or replace function marketplace.trust_database_identity(p_reason text)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  insert into marketplace.stripe_control_log (change, reason) values ('identity on trust by person', p_reason);
  return query update marketplace.stripe_control set identity_on_trust = p_reason returning *;
end
$$;

comment on function marketplace.trust_database_identity(text) is
  'Says that this server need not tell its system identifier or its timeline, because it cannot. A failover is not noticed then: after each that may have lost commits, call look_up_first before the runners go on.';
