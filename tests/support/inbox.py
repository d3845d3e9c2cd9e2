"""A stand-in for the database's inbox of events, for as long as the schema has none; and short ways to look into it.

`install_stand_in` does nothing where `marketplace.ingest_stripe_event` exists: then that is what is tested. Once every
branch has it, that function goes, and `STAND_IN` with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.databases import Database, rows, value

# Stores an event once. Does nothing about any.
STAND_IN = """
create table marketplace.stripe_events (
  event_id text primary key, type text not null, payload jsonb not null, raw_sha256 text, result text not null
);
create type marketplace.ingested_event as (event_id text, type text, result text, detail text);
create or replace function marketplace.acted_event_types() returns setof text language sql as $$
  select unnest(array['refund.created', 'refund.updated', 'transfer.created'])
$$;
create or replace function marketplace.ingest_stripe_event(p_event jsonb, p_raw_sha256 text default null)
returns setof marketplace.ingested_event language plpgsql as $$
declare
  v_result text := 'ignored';
begin
  insert into marketplace.stripe_events
  values (p_event ->> 'id', p_event ->> 'type', p_event, p_raw_sha256, v_result)
  on conflict (event_id) do nothing;
  if not found then
    v_result := 'already_known';
  end if;
  return query select p_event ->> 'id', p_event ->> 'type', v_result, null::text;
end $$;
create or replace function marketplace.retry_events(p_limit integer default 100)
returns setof marketplace.ingested_event language sql as $$
  select event_id, type, result, null::text from marketplace.stripe_events where result = 'kept' limit p_limit
$$;
create or replace function marketplace.read_kept_events()
returns table (
  event_id text, type text, order_id text, kept_since timestamptz, attempts integer, detail text, next_step text
) language sql as $$
  select event_id, type, null, now(), 1, null, 'select * from marketplace.retry_events();'
  from marketplace.stripe_events where result = 'kept'
$$;
"""


def install_stand_in(db: Database) -> None:
    """Make the inbox, if there is none."""
    if value(db, "select to_regprocedure('marketplace.ingest_stripe_event(jsonb, text)') is null"):
        db.execute(STAND_IN.encode())


@contextmanager
def inbox_that_runs(db: Database, statement: str) -> Iterator[None]:
    """Have this PL/pgSQL run for every event, and nothing else, until the end of the block."""
    before = value(db, "select pg_get_functiondef('marketplace.ingest_stripe_event(jsonb, text)'::regprocedure)")
    db.execute(
        f"""
        create or replace function marketplace.ingest_stripe_event(p_event jsonb, p_raw_sha256 text default null)
        returns setof marketplace.ingested_event language plpgsql as $$
        begin
          {statement}
        end $$
        """.encode()
    )
    try:
        yield
    finally:
        db.execute(before.encode())


def comes_to(result: str, detail: str = "null::text") -> str:
    """PL/pgSQL that says this of the event; `detail` is SQL."""
    return f"return query select p_event ->> 'id', p_event ->> 'type', '{result}', {detail};"


def stored(db: Database) -> list[str]:
    """The ids of the events in the inbox, in order."""
    return [each["event_id"] for each in rows(db, "select event_id from marketplace.stripe_events order by event_id")]


def stored_event(db: Database, event_id: str) -> dict[str, object]:
    """An event as it is in the inbox."""
    event: dict[str, object] = value(
        db, "select payload from marketplace.stripe_events where event_id = %(event_id)s", event_id=event_id
    )
    return event
