-- What names nothing but a payment is found by it, whatever came of it.
--
-- The indexes of kept events by order and by payment are given up for it, by the two migrations after this one. While
-- few events are kept, a planner goes through all of them by any such index instead; the plan stays when they are many.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0060.validate-event-checks

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_stripe_events_payment') and not indisvalid
  ) then
    drop index marketplace.idx_stripe_events_payment;
  end if;
end
$$;

create index concurrently if not exists idx_stripe_events_payment
on marketplace.stripe_events (payment_intent)
where charge_id is null and payment_intent is not null;

comment on index marketplace.idx_stripe_events_payment is 'What was told of a payment, naming no charge.';
