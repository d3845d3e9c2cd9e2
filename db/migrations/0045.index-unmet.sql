-- What was asked and could not be had yet: read for every row that becomes known.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0044.index-without-transfer-id

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_reversal_request_lines_unmet') and not indisvalid
  ) then
    drop index marketplace.idx_reversal_request_lines_unmet;
  end if;
end
$$;

create index concurrently if not exists idx_reversal_request_lines_unmet
on marketplace.reversal_request_lines (transfer_id)
where unmet > 0;

comment on index marketplace.idx_reversal_request_lines_unmet is 'Lines with something unmet.';
