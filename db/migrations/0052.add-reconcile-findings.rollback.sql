-- Nothing in it is evidence: a run can be made again.

set local search_path = pg_catalog, pg_temp;
drop table if exists marketplace.reconcile_findings cascade;
drop type if exists marketplace.reconcile_difference cascade;
