-- Reversals that Stripe told of and that were acted on: heard again, like those of 0046, when the rows have changed so
-- that more of them finds something to be taken from.
--
-- Built without stopping writers, as there.
-- transactional: false
-- depends: 0063.drop-index-kept-payment-intent

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_stripe_events_acted_on') and not indisvalid
  ) then
    drop index marketplace.idx_stripe_events_acted_on;
  end if;
end
$$;

create index concurrently if not exists idx_stripe_events_acted_on
on marketplace.stripe_events (object_id)
where state = 'acted' and type = 'transfer.reversed';

comment on index marketplace.idx_stripe_events_acted_on is 'Reversals of transfers that rows stand for, and of which something came.';
