-- Transfers that were recorded without their Stripe id: no machine can take them back.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0043.index-given-up

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_without_transfer_id') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_without_transfer_id;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_without_transfer_id
on marketplace.seller_transfers (id)
where status = 'completed' and stripe_transfer_id is null;

comment on index marketplace.idx_seller_transfers_without_transfer_id is 'Paid rows without a Stripe id.';
