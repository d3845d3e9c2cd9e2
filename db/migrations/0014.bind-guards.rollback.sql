-- Refuses while there is a transfer: records of money do not stand unguarded.

do $$
declare
  v_bound record;
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers) then
    raise exception 'marketplace.seller_transfers holds rows: its guards are not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;

  for v_bound in
    select t.tgname, t.tgrelid::regclass as relation
    from pg_catalog.pg_trigger as t
    inner join pg_catalog.pg_class as c on c.oid = t.tgrelid
    where c.relnamespace = 'marketplace'::regnamespace and not t.tgisinternal
  loop
    execute format('drop trigger %I on %s', v_bound.tgname, v_bound.relation);
  end loop;
  for v_bound in
    select p.oid::regprocedure as function
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'marketplace'::regnamespace and p.prorettype = 'trigger'::regtype
  loop
    execute format('drop function %s', v_bound.function);
  end loop;
end
$$;
