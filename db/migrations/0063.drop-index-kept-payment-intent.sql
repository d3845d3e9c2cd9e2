-- What waits for a payment is found among the events of the payment; 0061 says why.
-- transactional: false
-- depends: 0062.drop-index-kept-order

drop index concurrently if exists marketplace.idx_stripe_events_kept_payment_intent;
