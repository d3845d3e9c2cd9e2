-- One root per transfer at Stripe; its slices share the id. Takes over from the unique constraint, which the next
-- migration drops: at no moment may two roots stand for one transfer.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0023.index-family

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_stripe_transfer_id') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_stripe_transfer_id;
  end if;
end
$$;

create unique index concurrently if not exists idx_seller_transfers_stripe_transfer_id
on marketplace.seller_transfers (stripe_transfer_id)
where root_id is null;

comment on index marketplace.idx_seller_transfers_stripe_transfer_id is 'One root per transfer at Stripe.';
