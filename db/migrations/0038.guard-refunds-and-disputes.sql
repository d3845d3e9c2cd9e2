-- An end that was told stays told, whoever writes; and nothing of it is removed.
-- depends: 0037.add-refunds-and-disputes

create or replace trigger _100_refuse_change
before update on marketplace.stripe_refunds
for each row when (
  new.refund_id is distinct from old.refund_id
  or new.amount is distinct from old.amount
  or (old.charge_id is not null and new.charge_id is distinct from old.charge_id)
  or (old.decided_by is not null and new.decided_by is distinct from old.decided_by)
  or (old.status = 'succeeded' and new.status not in ('succeeded', 'canceled', 'failed'))
  or (old.status = 'canceled' and new.status not in ('canceled', 'failed'))
  or (old.status = 'failed' and new.status <> 'failed')
)
execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.stripe_refunds
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.stripe_refunds
for each statement execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_change
before update on marketplace.stripe_disputes
for each row when (
  new.dispute_id is distinct from old.dispute_id
  or (old.charge_id is not null and new.charge_id is distinct from old.charge_id)
  or (old.funds_withdrawn and not new.funds_withdrawn)
  or (old.funds_reinstated and not new.funds_reinstated)
  or (old.status = 'won' and new.status <> 'won')
)
execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_delete
before delete on marketplace.stripe_disputes
for each row execute function marketplace.tg_records__refuse_change();

create or replace trigger _100_refuse_truncate
before truncate on marketplace.stripe_disputes
for each statement execute function marketplace.tg_records__refuse_change();

alter table marketplace.stripe_refunds
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_delete,
enable always trigger _100_refuse_truncate;

alter table marketplace.stripe_disputes
enable always trigger _100_refuse_change,
enable always trigger _100_refuse_delete,
enable always trigger _100_refuse_truncate;
