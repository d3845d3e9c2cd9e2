-- Nothing in them is evidence: a run can be made again.

set local search_path = pg_catalog, pg_temp;
drop table if exists marketplace.reconcile_objects cascade;
drop table if exists marketplace.reconcile_runs cascade;
