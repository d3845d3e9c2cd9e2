-- What Stripe or a person tells of a charge beside its amount, which may be told later: whose order it paid.
-- depends: 0038.guard-refunds-and-disputes

-- squawk-ignore ban-drop-not-null
alter table marketplace.charges alter column amount drop not null;

alter table marketplace.charges
add column if not exists payment_intent text,
add column if not exists transfer_group text,
add column if not exists order_id text,
add column if not exists currency text,
add column if not exists refunded bigint,
add column if not exists told_at timestamptz,
add column if not exists updated_at timestamptz;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint
    where conrelid = 'marketplace.charges'::regclass and conname = 'chk_charge_texts_are_bounded'
  ) then
    alter table marketplace.charges
      add constraint chk_charge_texts_are_bounded check (
        length(payment_intent) <= 255
        and length(transfer_group) <= 255
        and length(order_id) <= 255
        and length(currency) <= 10
      ),
      add constraint chk_charge_refunded_is_bounded check (refunded between 0 and 999999999999);
  end if;
end
$$;

-- Few rows have any of these yet.
-- squawk-ignore require-concurrent-index-creation
create index if not exists idx_charges_order on marketplace.charges (order_id) where order_id is not null;
-- squawk-ignore require-concurrent-index-creation
create index if not exists idx_charges_transfer_group on marketplace.charges (transfer_group)
where transfer_group is not null;
-- squawk-ignore require-concurrent-index-creation
create index if not exists idx_charges_payment_intent on marketplace.charges (payment_intent)
where payment_intent is not null;

comment on index marketplace.idx_charges_order is 'The charges of an order.';
comment on index marketplace.idx_charges_transfer_group is 'The charges of a transfer group, which may be an order''s id.';
comment on index marketplace.idx_charges_payment_intent is 'The charges of a payment.';
comment on table marketplace.charges is 'Charges that transfers are funded from, as far as something is known of them.';
comment on column marketplace.charges.amount is
  'What the buyer paid, in minor units of the charge''s own currency, which may differ from the transfers''; null until somebody says.';
comment on column marketplace.charges.payment_intent is 'Stripe''s payment intent (pi_…); null until somebody says.';
comment on column marketplace.charges.transfer_group is 'Stripe''s transfer_group of the charge: taken for an order''s id if there is such an order.';
comment on column marketplace.charges.order_id is 'The order that it paid, where the app or a person said so.';
comment on column marketplace.charges.currency is 'The charge''s currency; null until somebody says.';
comment on column marketplace.charges.refunded is
  'Stripe''s amount_refunded, as last told: refunds that are still pending count in it. What is asked of sellers goes by stripe_refunds.';
comment on column marketplace.charges.told_at is 'When Stripe said so, by its clock.';
comment on column marketplace.charges.updated_at is 'When something new was last told of it; null if nothing was since its row was made.';
comment on constraint chk_charge_texts_are_bounded on marketplace.charges is 'Every text has an end.';
comment on constraint chk_charge_refunded_is_bounded on marketplace.charges is 'Stripe takes at most twelve digits.';
