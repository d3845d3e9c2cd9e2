-- Holds the old entries of the log to the foreign key as well: the column is new, and empty in all of them.
-- depends: 0053.create-prunings

set local search_path = pg_catalog, pg_temp;

alter table marketplace.transfer_status_log validate constraint fk_transfer_status_log_pruning;
