-- transactional: false

drop index concurrently if exists marketplace.idx_transfer_attempts_alarming;
