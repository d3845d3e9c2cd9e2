-- Gives everything to whoever rolls back. The roles go with the last database that has them.

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_command text;
  v_role text;
begin
  for v_command in
    select format('drop event trigger %I', e.evtname) from pg_catalog.pg_event_trigger as e
    where e.evtname in ('seller_transfers_count_guards', 'seller_transfers_keep_guards')
    union all
    select format('revoke all on %s from %s', o.objects, a.roles)
    from (values
      ('schema marketplace'), ('all tables in schema marketplace'), ('all functions in schema marketplace')
    ) as o (objects)
    cross join (values ('marketplace_app, marketplace_runner, marketplace_triage, marketplace_readonly')) as a (roles)
    union all
    select format('alter %s %I.%I owner to %I',
      case c.relkind when 'v' then 'view' when 'c' then 'type' else 'table' end, 'marketplace', c.relname, current_user)
    from pg_catalog.pg_class as c
    where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'p', 'v', 'c')
      and c.relowner = 'marketplace_owner'::regrole
    union all
    select format('alter routine %s owner to %I', p.oid::regprocedure, current_user)
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'marketplace'::regnamespace and p.proowner = 'marketplace_owner'::regrole
    union all
    select format('alter schema marketplace owner to %I', current_user)
    from pg_catalog.pg_namespace as n
    where n.nspname = 'marketplace' and n.nspowner = 'marketplace_owner'::regrole
  loop
    execute v_command;
  end loop;
  foreach v_role in array array[
    'marketplace_triage', 'marketplace_readonly', 'marketplace_runner', 'marketplace_app', 'marketplace_owner'
  ]
  loop
    begin
      execute format('drop role if exists %I', v_role);
    exception when dependent_objects_still_exist or insufficient_privilege then
      raise notice 'role % stays: another database has it', v_role;
    end;
  end loop;
end
$$;
