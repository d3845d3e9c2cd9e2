-- Refuses while there is a slice: it has its root's id.

do $$
begin
  if to_regclass('marketplace.seller_transfers') is null then
    return;
  end if;
  if exists (select from marketplace.seller_transfers where root_id is not null) then
    raise exception 'marketplace.seller_transfers holds slices: their Stripe ids are not unique'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'Stay on this release, or dump the tables and drop them by hand if you mean it.';
  end if;
  if not exists (
    select from pg_catalog.pg_constraint
    where
      conrelid = 'marketplace.seller_transfers'::regclass
      and conname = 'uq_seller_transfers_stripe_transfer_id'
  ) then
    alter table marketplace.seller_transfers
      add constraint uq_seller_transfers_stripe_transfer_id unique (stripe_transfer_id);
  end if;
  comment on constraint uq_seller_transfers_stripe_transfer_id on marketplace.seller_transfers is 'One row per transfer at Stripe.';
end
$$;
