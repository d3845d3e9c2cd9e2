-- An event that was acted on, or ignored, may come to be kept again, long after it came in: since when.
-- depends: 0071.validate-named-reversal

set local search_path = pg_catalog, pg_temp;

alter table marketplace.stripe_events
add column if not exists kept_at timestamptz;

comment on column marketplace.stripe_events.kept_at is
  'When it was kept again last, after something had been made of it; null if it never was.';
