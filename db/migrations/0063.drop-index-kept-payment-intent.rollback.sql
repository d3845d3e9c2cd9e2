-- transactional: false

create index concurrently if not exists idx_stripe_events_kept_payment_intent
on marketplace.stripe_events (payment_intent)
where state = 'kept';

comment on index marketplace.idx_stripe_events_kept_payment_intent is 'What waits for a payment''s charge to be known.';
