-- Refuses while there is a row: an audit trail is not undone by a migration.

do $$
begin
  if to_regclass('marketplace.transfer_status_log') is null then
    return;
  end if;
  if exists (select from marketplace.transfer_status_log) then
    raise exception 'marketplace.transfer_status_log holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
  drop table marketplace.transfer_status_log cascade;
end
$$;
