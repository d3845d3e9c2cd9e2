-- The slices of a transfer.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0022.validate-slices

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_family') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_family;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_family
on marketplace.seller_transfers (root_id)
where root_id is not null;

comment on index marketplace.idx_seller_transfers_family is 'The slices of a transfer.';
