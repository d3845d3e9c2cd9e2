-- An event names the charge that was refunded: which transfers were paid from it.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0040.add-refunds-by

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_source_charge') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_source_charge;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_source_charge
on marketplace.seller_transfers (source_charge)
where source_charge is not null;

comment on index marketplace.idx_seller_transfers_source_charge is 'The transfers that were paid from a charge.';
