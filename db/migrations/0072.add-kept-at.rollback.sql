-- Since when an event is kept again is lost with it, and told from when it came in, as before.

set local search_path = pg_catalog, pg_temp;

alter table if exists marketplace.stripe_events
-- squawk-ignore ban-drop-column
drop column if exists kept_at;
