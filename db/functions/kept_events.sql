-- Events that could not be acted on yet, for people.

create or replace function marketplace._kept_since(p_event marketplace.stripe_events)
returns timestamptz
language plpgsql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_event.kept_at, p_event.received_at);
end
$$;

comment on function marketplace._kept_since(marketplace.stripe_events) is 'Since when an event has been kept.';

create or replace view marketplace.kept_events as
select
  e.event_id,
  e.type,
  e.order_id,
  marketplace._kept_since(e) as kept_since,
  e.attempts,
  e.detail,
  coalesce(e.next_step, 'select * from marketplace.retry_events();') as next_step
from marketplace.stripe_events as e
where e.state = 'kept';

comment on view marketplace.kept_events is
  'Events of Stripe''s that could not be acted on yet: each is tried again when its order or its charge changes, and by retry_events(). In psql, with \x.';
comment on column marketplace.kept_events.event_id is 'Stripe''s event (evt_…).';
comment on column marketplace.kept_events.type is 'Stripe''s type.';
comment on column marketplace.kept_events.order_id is 'The order it is about; null if none is known.';
comment on column marketplace.kept_events.kept_since is 'When it came in, or when it was kept again: the rows that it had been acted on for have changed.';
comment on column marketplace.kept_events.attempts is 'How often it was tried.';
comment on column marketplace.kept_events.detail is 'What stands in the way, with its SQLSTATE.';
comment on column marketplace.kept_events.next_step is 'What a person may type.';

create or replace function marketplace.read_kept_events()
returns setof marketplace.kept_events
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.* from marketplace.kept_events as k order by k.kept_since, k.event_id
$$;

comment on function marketplace.read_kept_events() is 'The view kept_events, oldest first, for programs: they call functions only.';
