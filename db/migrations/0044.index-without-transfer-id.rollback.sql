-- transactional: false

drop index concurrently if exists marketplace.idx_seller_transfers_without_transfer_id;
