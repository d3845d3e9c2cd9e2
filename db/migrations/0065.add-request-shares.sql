-- The view request_shares comes with the functions; what this adds is its rollback, for it stands on columns that
-- rollbacks of earlier migrations drop.
-- depends: 0064.index-reversals-acted-on

set local search_path = pg_catalog, pg_temp;
