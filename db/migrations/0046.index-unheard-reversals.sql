-- Reversals that Stripe told of before any row stood for their transfer: heard again when one does.
--
-- Built without stopping writers. A build that was cut off leaves an invalid index behind, which IF NOT EXISTS would
-- take for the real one: it is dropped first, under an instant's lock.
-- transactional: false
-- depends: 0045.index-unmet

do $$
begin
  if exists (
    select from pg_catalog.pg_index
    where indexrelid = to_regclass('marketplace.idx_stripe_events_unheard') and not indisvalid
  ) then
    drop index marketplace.idx_stripe_events_unheard;
  end if;
end
$$;

create index concurrently if not exists idx_stripe_events_unheard
on marketplace.stripe_events (object_id)
where state = 'ignored' and type = 'transfer.reversed';

comment on index marketplace.idx_stripe_events_unheard is 'Reversals of transfers that no row stood for.';
