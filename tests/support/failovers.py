"""A database that is not the one it was, as the schema sees it: what was pinned is made to be another's."""

from datetime import timedelta

from psycopg.rows import DictRow

from tests.support.databases import Database, row
from tests.support.transfers import call


def register_own(db: Database, worker: str = "worker-1") -> None:
    """A runner of the database's account."""
    call(
        db,
        "register_runner",
        p_worker=worker,
        p_version="1.0",
        p_stripe_account="acct_platform",
        p_livemode=False,
    )


def promote(db: Database, seen: str = "3 s") -> None:
    """As if a standby had taken over; the last that it knows of a runner is so long ago."""
    db.execute("update marketplace.stripe_control set wal_timeline = wal_timeline - 1")
    last_seen(db, seen)


def last_seen(db: Database, ago: str) -> None:
    """As if no runner had been seen since."""
    db.execute("update marketplace.runners set last_seen_at = clock_timestamp() - %s::interval", [ago])


def pass_since_failover(db: Database, by: str | timedelta) -> None:
    """As if the failover had been noticed that much earlier."""
    db.execute("update marketplace.stripe_control set look_up_first_since = look_up_first_since - %s::interval", [by])


def control(db: Database) -> DictRow:
    """The row of stripe_control."""
    return row(db, "select * from marketplace.stripe_control")
