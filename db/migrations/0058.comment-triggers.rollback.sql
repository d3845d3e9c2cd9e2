set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select g.tgname, g.tgrelid::regclass as relation
    from pg_catalog.pg_trigger as g
    inner join pg_catalog.pg_class as c on c.oid = g.tgrelid
    where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal
  loop
    execute format('comment on trigger %I on %s is null', v_trigger.tgname, v_trigger.relation);
  end loop;
end
$$;
