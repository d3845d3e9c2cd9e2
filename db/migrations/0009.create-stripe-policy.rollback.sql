drop table if exists marketplace.stripe_error_rules cascade;
drop table if exists marketplace.retry_policy cascade;
