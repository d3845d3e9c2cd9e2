-- No guard is dropped or disabled by a slip: refused to everybody, superusers included, where a superuser migrates.
--
-- Only a superuser may make event triggers. Where none migrates, self_check() says that they are missing. Whoever means
-- it says so first, as migrate does: set marketplace.guards_may_change = 'on'. A table that is dropped takes its guards
-- along.
--
-- They fire for everybody's DDL in the whole database, and so with the owner's rights: others may not look.

create or replace function marketplace._count_weak_guards()
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select count(*) from marketplace._missing_guards() as m where to_regclass('marketplace.' || m.relation) is not null
  ) + (
    select count(*)
    from pg_catalog.pg_trigger as g
    inner join pg_catalog.pg_proc as p on p.oid = g.tgfoid
    where p.pronamespace = to_regnamespace('marketplace') and g.tgenabled <> 'A');
end
$$;

comment on function marketplace._count_weak_guards() is 'How many guards of the tables there are do not work, or only in some sessions.';

create or replace function marketplace._remember_guards()
returns event_trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('marketplace.guards_may_change', true), '') <> 'on' then
    perform set_config('marketplace.weak_guards', marketplace._count_weak_guards()::text, true);
  end if;
end
$$;

comment on function marketplace._remember_guards() is 'Before DDL: notes how many guards do not work.';

create or replace function marketplace._keep_guards()
returns event_trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Compared, not forbidden: a database with a weak guard can be mended, and used for something else.
  if coalesce(current_setting('marketplace.guards_may_change', true), '') = 'on' then
    return;
  end if;
  if marketplace._count_weak_guards() > current_setting('marketplace.weak_guards')::bigint then
    raise exception '% would leave a guard of schema marketplace dropped, disabled or replaced', tg_tag
      using errcode = 'ST002',
            hint = 'Without its guards money moves twice. If you mean it: set marketplace.guards_may_change = ''on''; afterwards ask marketplace.self_check() what is missing.',
            schema = 'marketplace';
  end if;
end
$$;

comment on function marketplace._keep_guards() is 'After DDL: refuses it if more guards do not work than before (ST002).';

do $$
declare
  v_tags text := '''ALTER TABLE'', ''ALTER TRIGGER'', ''DROP TRIGGER'', ''DROP FUNCTION'', ''DROP ROUTINE'', ''DROP OWNED''';
begin
  if not (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) then
    return;
  end if;
  if not exists (select from pg_catalog.pg_event_trigger as e where e.evtname = 'seller_transfers_count_guards') then
    execute format('create event trigger seller_transfers_count_guards on ddl_command_start when tag in (%s) execute function marketplace._remember_guards()', v_tags);
  end if;
  if not exists (select from pg_catalog.pg_event_trigger as e where e.evtname = 'seller_transfers_keep_guards') then
    execute format('create event trigger seller_transfers_keep_guards on ddl_command_end when tag in (%s) execute function marketplace._keep_guards()', v_tags);
  end if;
  alter event trigger seller_transfers_count_guards enable always;
  alter event trigger seller_transfers_keep_guards enable always;
  comment on event trigger seller_transfers_count_guards is 'Before DDL: how many guards of schema marketplace do not work.';
  comment on event trigger seller_transfers_keep_guards is 'After DDL: refuses what would leave more of them dropped, disabled or replaced.';
end
$$;
