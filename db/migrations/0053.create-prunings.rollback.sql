-- Refuses while there is a record: it says what is gone, and where its export is.

set local search_path = pg_catalog, pg_temp;
do $$
begin
  if to_regclass('marketplace.prunings') is not null
    and exists (select from marketplace.prunings) then
    raise exception 'marketplace.prunings holds rows: it is not dropped'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'They say what was taken off the log. Migrate forward, or restore an older database.';
  end if;
end
$$;

drop trigger if exists _900_match_pruning on marketplace.transfer_status_log;
drop trigger if exists _900_match_pruning on marketplace.transfer_attempts;
drop function if exists marketplace.tg_records__match_pruning();
alter table marketplace.transfer_status_log
drop constraint if exists fk_transfer_status_log_pruning,
drop column if exists pruning_id;
drop table if exists marketplace.prunings cascade;
