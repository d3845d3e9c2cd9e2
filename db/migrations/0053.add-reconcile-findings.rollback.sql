-- Nothing in it is evidence: a run can be made again.
drop table if exists marketplace.reconcile_findings cascade;
drop type if exists marketplace.reconcile_difference cascade;
