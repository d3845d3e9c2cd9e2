-- Nothing in them is evidence: a run can be made again.
drop table if exists marketplace.reconcile_objects cascade;
drop table if exists marketplace.reconcile_runs cascade;
