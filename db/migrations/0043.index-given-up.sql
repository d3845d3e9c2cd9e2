-- What was given up, for a person to look at: few rows among all there ever were.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0042.index-asked-for

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_given_up') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_given_up;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_given_up
on marketplace.seller_transfers (id)
where status = 'permanently_failed';

comment on index marketplace.idx_seller_transfers_given_up is 'Rows that were given up.';
