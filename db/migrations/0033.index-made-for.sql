-- One successor per transfer at Stripe that was sent for it: its id is not its root's.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0032.index-compensates

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_seller_transfers_made_for') and not indisvalid
  ) then
    drop index marketplace.idx_seller_transfers_made_for;
  end if;
end
$$;

create unique index concurrently if not exists idx_seller_transfers_made_for
on marketplace.seller_transfers (stripe_transfer_id)
where made_for is not null and successor_of is not null;

comment on index marketplace.idx_seller_transfers_made_for is 'One row per transfer that was sent for a successor.';
