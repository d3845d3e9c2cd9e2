-- transactional: false

drop index concurrently if exists marketplace.idx_reversal_requests_asked_for;
