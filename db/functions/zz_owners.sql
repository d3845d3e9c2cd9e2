-- Everything belongs to marketplace_owner, whoever migrated: functions and views work with its rights. The file is
-- loaded last, so it finds all there is.

do $$
declare
  v_command text;
begin
  for v_command in
    select 'alter schema marketplace owner to marketplace_owner'
    from pg_catalog.pg_namespace as n
    where n.nspname = 'marketplace' and n.nspowner <> 'marketplace_owner'::regrole
    union all
    select format(
      'alter %s marketplace.%I owner to marketplace_owner',
      case c.relkind when 'v' then 'view' when 'c' then 'type' else 'table' end, c.relname)
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'p', 'v', 'c')
      and c.relowner <> 'marketplace_owner'::regrole
    union all
    select format('alter routine %s owner to marketplace_owner', p.oid::regprocedure)
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'marketplace'::regnamespace and p.proowner <> 'marketplace_owner'::regrole
    union all
    select format('revoke all on type marketplace.%I from public', c.relname)
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind = 'c'
  loop
    execute v_command;
  end loop;
end
$$;
