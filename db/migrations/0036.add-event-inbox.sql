-- What Stripe tells by events: each is stored once, as it came, and acted on as often as it takes.
--
-- An event that cannot be acted on is kept with its error, not refused: a refused one is delivered again for three days
-- and then never.
-- depends: 0035.index-successor-transfers

create table if not exists marketplace.stripe_events (
  event_id text not null,
  type text not null,
  livemode boolean,
  account text,
  created_at timestamptz,
  received_at timestamptz not null default clock_timestamp(),
  payload jsonb not null,
  raw_sha256 text,
  object_id text,
  charge_id text,
  payment_intent text,
  state text not null,
  detail text,
  next_step text,
  order_id text,
  attempts integer not null default 0,
  last_tried_at timestamptz not null default clock_timestamp(),
  constraint pk_stripe_events primary key (event_id),
  constraint chk_event_state_is_known check (state in ('acted', 'ignored', 'kept')),
  constraint chk_event_id_is_of_its_kind check (event_id ~ '^evt_[A-Za-z0-9_]{1,250}$'),
  constraint chk_event_texts_are_bounded check (
    length(type) between 1 and 255
    and length(account) <= 255
    and raw_sha256 ~ '^[0-9a-f]{64}$'
    and length(object_id) <= 255
    and length(charge_id) <= 255
    and length(payment_intent) <= 255
    and length(detail) <= 1000
    and length(next_step) <= 1000
    and length(order_id) <= 255
  ),
  constraint chk_event_attempts_are_counted check (attempts >= 0)
);

-- The table is new: no writer waits for its indexes.
create index if not exists idx_stripe_events_charge on marketplace.stripe_events (charge_id);
create index if not exists idx_stripe_events_kept on marketplace.stripe_events (last_tried_at, event_id)
where state = 'kept';
create index if not exists idx_stripe_events_kept_order on marketplace.stripe_events (order_id)
where state = 'kept';
create index if not exists idx_stripe_events_kept_payment_intent on marketplace.stripe_events (payment_intent)
where state = 'kept';

comment on index marketplace.idx_stripe_events_charge is 'What was told of a charge.';
comment on index marketplace.idx_stripe_events_kept is 'What is to be tried again, the longest untried first.';
comment on index marketplace.idx_stripe_events_kept_order is 'What waits for an order to change.';
comment on index marketplace.idx_stripe_events_kept_payment_intent is 'What waits for a payment''s charge to be known.';

comment on table marketplace.stripe_events is
  'The inbox: one row per event that Stripe delivered, of whatever type, however often it came. Never deleted; what changes is only what it came to.';
comment on column marketplace.stripe_events.event_id is 'Stripe''s event (evt_…).';
comment on column marketplace.stripe_events.type is 'Stripe''s type, such as refund.updated.';
comment on column marketplace.stripe_events.livemode is 'Whether it is of live mode; null if it does not say.';
comment on column marketplace.stripe_events.account is 'The connected account it happened on; null for the platform''s own.';
comment on column marketplace.stripe_events.created_at is 'When it happened, by Stripe''s clock; null if it does not say.';
comment on column marketplace.stripe_events.received_at is 'When it first came in.';
comment on column marketplace.stripe_events.payload is 'The event as it came.';
comment on column marketplace.stripe_events.raw_sha256 is 'SHA-256 of the bytes it came in, in hexadecimal; null if nobody said.';
comment on column marketplace.stripe_events.object_id is 'The refund, dispute, charge or transfer it tells of; null for types that are not acted on.';
comment on column marketplace.stripe_events.charge_id is 'The charge that is refunded, disputed or told of; null if it names none.';
comment on column marketplace.stripe_events.payment_intent is 'The payment intent (pi_…) it names; null if it names none.';
comment on column marketplace.stripe_events.state is
  'acted: what it says is done. ignored: there is nothing to do for it. kept: it could not be acted on yet, and is tried again.';
comment on column marketplace.stripe_events.detail is 'What it came to, in words; of a kept one the error, with its SQLSTATE.';
comment on column marketplace.stripe_events.next_step is 'Of a kept one: what a person may type; else null.';
comment on column marketplace.stripe_events.order_id is 'The order it is about, or the first of several; null if none is known.';
comment on column marketplace.stripe_events.attempts is 'How often it was tried to act on it.';
comment on column marketplace.stripe_events.last_tried_at is 'When that was tried last, or when it came in.';
comment on constraint pk_stripe_events on marketplace.stripe_events is 'One row per event.';
comment on constraint chk_event_state_is_known on marketplace.stripe_events is 'See state.';
comment on constraint chk_event_id_is_of_its_kind on marketplace.stripe_events is 'evt_….';
comment on constraint chk_event_texts_are_bounded on marketplace.stripe_events is 'Every text has an end; a SHA-256 has 64 digits.';
comment on constraint chk_event_attempts_are_counted on marketplace.stripe_events is 'Counted up from 0.';

create or replace trigger _100_refuse_change
before update on marketplace.stripe_events
for each row when (
  (new.event_id, new.type, new.received_at) is distinct from (old.event_id, old.type, old.received_at)
  or (new.livemode, new.account, new.created_at, new.raw_sha256)
  is distinct from (old.livemode, old.account, old.created_at, old.raw_sha256)
  or (new.object_id, new.charge_id, new.payment_intent)
  is distinct from (old.object_id, old.charge_id, old.payment_intent)
  or new.payload is distinct from old.payload
)
execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.stripe_events
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.stripe_events
for each statement execute function marketplace.tg_records__refuse_change();

alter table marketplace.stripe_events
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_delete,
enable always trigger _100_refuse_truncate;

do $$
begin
  if to_regtype('marketplace.ingested_event') is null then
    create type marketplace.ingested_event as (event_id text, type text, result text, detail text);
  end if;
end
$$;

comment on type marketplace.ingested_event is
  'What became of an event: acted, ignored, kept (tried again later), or already_known, if it had come before and is done with; detail says it in words.';
