-- What waits for an order is found among the events of the order; 0061 says why.
-- transactional: false
-- depends: 0061.index-payment-events

drop index concurrently if exists marketplace.idx_stripe_events_kept_order;
