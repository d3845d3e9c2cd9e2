-- No migration made the view; the release before has none.

set local search_path = pg_catalog, pg_temp;

drop view if exists marketplace.request_shares;
