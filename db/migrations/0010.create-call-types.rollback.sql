drop type if exists marketplace.stripe_call cascade;
drop type if exists marketplace.stripe_outcome cascade;
drop type if exists marketplace.recorded_outcome cascade;
