drop table if exists marketplace.stripe_control cascade;
