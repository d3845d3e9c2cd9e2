-- What a buyer paid, where the app says so: a refund of a part of a charge is a part of its transfers.
-- depends: 0006.create-reversal-requests

create table if not exists marketplace.charges (
  charge_id text not null,
  amount bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint pk_charges primary key (charge_id),
  constraint chk_charge_id_is_of_its_kind check (charge_id ~ '^(ch|py)_[A-Za-z0-9]+$' and length(charge_id) <= 255),
  constraint chk_charge_amount_is_bounded check (amount between 1 and 999999999999)
);

comment on table marketplace.charges is 'Charges that transfers are funded from, as far as their amount is known.';
comment on column marketplace.charges.charge_id is 'Stripe''s charge (ch_… or py_…).';
comment on column marketplace.charges.amount is 'What the buyer paid, in minor units of the charge''s own currency, which may differ from the transfers''.';
comment on column marketplace.charges.created_at is 'When it was first named.';
comment on constraint pk_charges on marketplace.charges is 'One row per charge.';
comment on constraint chk_charge_id_is_of_its_kind on marketplace.charges is 'ch_… or py_….';
comment on constraint chk_charge_amount_is_bounded on marketplace.charges is 'Stripe takes at most twelve digits.';
