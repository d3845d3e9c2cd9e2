-- What events have asked for a refund or a dispute.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0041.index-source-charge

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_reversal_requests_asked_for') and not indisvalid
  ) then
    drop index marketplace.idx_reversal_requests_asked_for;
  end if;
end
$$;

create index concurrently if not exists idx_reversal_requests_asked_for
on marketplace.reversal_requests (asked_for)
where asked_for is not null;

comment on index marketplace.idx_reversal_requests_asked_for is 'The requests for a refund or a dispute.';
