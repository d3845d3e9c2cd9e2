-- A transfer at Stripe may have several rows now, a root and its slices; the index before this keeps the roots apart.
-- depends: 0024.index-stripe-transfer-id

-- squawk-ignore ban-drop-constraint
alter table marketplace.seller_transfers drop constraint if exists uq_seller_transfers_stripe_transfer_id;
