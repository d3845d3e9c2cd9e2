-- The view request_shares comes with the functions; what this adds is its rollback, for it stands on columns that
-- rollbacks of earlier migrations drop.
-- depends: 0058.comment-triggers

set local search_path = pg_catalog, pg_temp;
