-- transactional: false

drop index concurrently if exists marketplace.idx_reversal_request_lines_unmet;
