-- A row that ended has at most one successor: two would be paid, or taken back, twice.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0030.validate-sending

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_successor_of') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_successor_of;
  end if;
end
$$;

create unique index concurrently if not exists idx_seller_transfers_successor_of
on marketplace.seller_transfers (successor_of)
where successor_of is not null;

comment on index marketplace.idx_seller_transfers_successor_of is 'One successor per row.';
