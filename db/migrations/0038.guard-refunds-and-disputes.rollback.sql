drop trigger if exists _100_refuse_truncate on marketplace.stripe_disputes;
drop trigger if exists _100_refuse_delete on marketplace.stripe_disputes;
drop trigger if exists _100_refuse_change on marketplace.stripe_disputes;
drop trigger if exists _100_refuse_truncate on marketplace.stripe_refunds;
drop trigger if exists _100_refuse_delete on marketplace.stripe_refunds;
drop trigger if exists _100_refuse_change on marketplace.stripe_refunds;
