"""Short ways to look into the inbox of events, and to have it do something else."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.databases import Database, rows, value


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
