-- Refuses while there is a row: what was asked for is not undone by a migration.

do $$
begin
  if to_regclass('marketplace.reversal_requests') is null then
    return;
  end if;
  if exists (select from marketplace.reversal_requests) then
    raise exception 'marketplace.reversal_requests holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Dump the table and drop it by hand if you mean it.';
  end if;
  alter table marketplace.seller_transfers drop constraint if exists fk_seller_transfers_request;
  drop table if exists marketplace.reversal_request_lines cascade;
  drop table marketplace.reversal_requests cascade;
end
$$;
