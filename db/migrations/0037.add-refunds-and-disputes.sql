-- Refunds and disputes as Stripe tells of them. Events come late, twice and in any order: what an object has become is
-- kept here, and its end, once told, stays.
-- depends: 0036.add-event-inbox

create table if not exists marketplace.stripe_refunds (
  refund_id text not null,
  charge_id text,
  payment_intent text,
  amount bigint not null,
  currency text not null,
  status text not null,
  decided_by text,
  created_at timestamptz,
  ended_at timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  constraint pk_stripe_refunds primary key (refund_id),
  constraint chk_refund_status_is_known check (
    status in ('pending', 'requires_action', 'succeeded', 'canceled', 'failed')
  ),
  constraint chk_refund_end_is_whole check ((status in ('canceled', 'failed')) = (ended_at is not null)),
  constraint chk_refund_decider_is_known check (
    decided_by in ('app', 'events') and (status <> 'succeeded' or decided_by is not null)
  ),
  constraint chk_refund_amount_is_bounded check (amount between 1 and 999999999999),
  constraint chk_refund_texts_are_bounded check (
    length(refund_id) <= 255
    and length(charge_id) <= 255
    and length(payment_intent) <= 255
    and length(currency) <= 10
  )
);

create index if not exists idx_stripe_refunds_charge on marketplace.stripe_refunds (charge_id);
comment on index marketplace.idx_stripe_refunds_charge is 'The refunds of a charge.';

comment on table marketplace.stripe_refunds is 'Refunds of buyers, as far as Stripe told of them by events.';
comment on column marketplace.stripe_refunds.refund_id is 'Stripe''s refund (re_…).';
comment on column marketplace.stripe_refunds.charge_id is 'The charge that is refunded; null while it is not known.';
comment on column marketplace.stripe_refunds.payment_intent is 'Its payment intent (pi_…); null if the event did not name it.';
comment on column marketplace.stripe_refunds.amount is 'What the buyer gets, in minor units.';
comment on column marketplace.stripe_refunds.currency is 'The charge''s currency.';
comment on column marketplace.stripe_refunds.status is
  'The furthest that was told: pending, requires_action, succeeded, canceled, failed. What fails after it succeeded has failed.';
comment on column marketplace.stripe_refunds.decided_by is
  'Who asks for the sellers'' share, as stripe_control.refunds_by said when the refund was first told to have succeeded; null until then.';
comment on column marketplace.stripe_refunds.created_at is 'When it was made, by Stripe''s clock.';
comment on column marketplace.stripe_refunds.ended_at is 'When it was told to be canceled or to have failed, by this database''s clock; null while it has not.';
comment on column marketplace.stripe_refunds.updated_at is 'When something new was last told of it.';
comment on constraint pk_stripe_refunds on marketplace.stripe_refunds is 'One row per refund.';
comment on constraint chk_refund_status_is_known on marketplace.stripe_refunds is 'See status.';
comment on constraint chk_refund_end_is_whole on marketplace.stripe_refunds is 'What ended says when, and nothing else does.';
comment on constraint chk_refund_decider_is_known on marketplace.stripe_refunds is 'app or events, and one of them once it succeeded.';
comment on constraint chk_refund_amount_is_bounded on marketplace.stripe_refunds is 'Stripe takes at most twelve digits.';
comment on constraint chk_refund_texts_are_bounded on marketplace.stripe_refunds is 'Every text has an end.';

create table if not exists marketplace.stripe_disputes (
  dispute_id text not null,
  charge_id text,
  payment_intent text,
  amount bigint not null,
  currency text not null,
  status text not null,
  funds_withdrawn boolean not null default false,
  funds_reinstated boolean not null default false,
  created_at timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  constraint pk_stripe_disputes primary key (dispute_id),
  constraint chk_dispute_amount_is_bounded check (amount between 1 and 999999999999),
  constraint chk_dispute_texts_are_bounded check (
    length(dispute_id) <= 255
    and length(charge_id) <= 255
    and length(payment_intent) <= 255
    and length(currency) <= 10
    and length(status) <= 100
  )
);

create index if not exists idx_stripe_disputes_charge on marketplace.stripe_disputes (charge_id);
comment on index marketplace.idx_stripe_disputes_charge is 'The disputes of a charge.';

comment on table marketplace.stripe_disputes is 'Disputes, as far as Stripe told of them by events.';
comment on column marketplace.stripe_disputes.dispute_id is 'Stripe''s dispute (dp_…, du_…).';
comment on column marketplace.stripe_disputes.charge_id is 'The charge that is disputed; null while it is not known.';
comment on column marketplace.stripe_disputes.payment_intent is 'Its payment intent (pi_…); null if the event did not name it.';
comment on column marketplace.stripe_disputes.amount is 'What is disputed, in minor units.';
comment on column marketplace.stripe_disputes.currency is 'The currency of the amount.';
comment on column marketplace.stripe_disputes.status is 'The furthest that was told, in Stripe''s word; won is the end of all.';
comment on column marketplace.stripe_disputes.funds_withdrawn is 'True once Stripe told that it took the amount off the platform''s balance.';
comment on column marketplace.stripe_disputes.funds_reinstated is 'True once Stripe told that it gave the amount back.';
comment on column marketplace.stripe_disputes.created_at is 'When it was made, by Stripe''s clock.';
comment on column marketplace.stripe_disputes.updated_at is 'When something new was last told of it.';
comment on constraint pk_stripe_disputes on marketplace.stripe_disputes is 'One row per dispute.';
comment on constraint chk_dispute_amount_is_bounded on marketplace.stripe_disputes is 'Stripe takes at most twelve digits.';
comment on constraint chk_dispute_texts_are_bounded on marketplace.stripe_disputes is 'Every text has an end.';
