-- Refuses while there is a row: what was paid to whom is not undone by a migration.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers) then
    raise exception 'marketplace.seller_transfers holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
  drop table marketplace.seller_transfers cascade;
end
$$;
