-- transactional: false

create index concurrently if not exists idx_stripe_events_kept_order
on marketplace.stripe_events (order_id)
where state = 'kept';

comment on index marketplace.idx_stripe_events_kept_order is 'What waits for an order to change.';
