-- Refuses while there is a row: an audit trail is not undone by a migration.

do $$
begin
  if to_regclass('marketplace.transfer_attempts') is null then
    return;
  end if;
  if exists (select from marketplace.transfer_attempts) then
    raise exception 'marketplace.transfer_attempts holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
  drop table marketplace.transfer_attempts cascade;
end
$$;
