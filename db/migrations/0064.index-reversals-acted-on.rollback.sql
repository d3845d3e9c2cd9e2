-- transactional: false

drop index concurrently if exists marketplace.idx_stripe_events_acted_on;
