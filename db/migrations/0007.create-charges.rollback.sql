-- Refuses while there is a row: what was paid is not undone by a migration.

do $$
begin
  if to_regclass('marketplace.charges') is null then
    return;
  end if;
  if exists (select from marketplace.charges) then
    raise exception 'marketplace.charges holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
end
$$;

drop table if exists marketplace.charges;
