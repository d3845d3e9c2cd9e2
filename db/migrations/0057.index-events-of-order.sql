-- What Stripe told of an order: a line each in its timeline.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0056.add-dismissals

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_stripe_events_order') and not indisvalid
  ) then
    drop index marketplace.idx_stripe_events_order;
  end if;
end
$$;

create index concurrently if not exists idx_stripe_events_order
on marketplace.stripe_events (order_id)
where order_id is not null;

comment on index marketplace.idx_stripe_events_order is 'The events about an order.';
