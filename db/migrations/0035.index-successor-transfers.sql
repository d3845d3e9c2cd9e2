-- The successors that stand for a transfer at Stripe: an event names the transfer, and its root may have another one,
-- or none.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0034.add-send-rules

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_successor_transfer') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_successor_transfer;
  end if;
end
$$;

create index concurrently if not exists idx_seller_transfers_successor_transfer
on marketplace.seller_transfers (stripe_transfer_id)
where successor_of is not null;

comment on index marketplace.idx_seller_transfers_successor_transfer is
  'The successors that stand for a transfer at Stripe.';
