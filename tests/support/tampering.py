"""What somebody could do who owns the tables, or is superuser: write past the guards."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.databases import Database, rows
from tests.support.raw_transfers import run
from tests.support.transfers import at_commit


@contextmanager
def unguarded(db: Database, *tables: str) -> Iterator[None]:
    """For the block, these tables have no triggers, foreign keys included; afterwards they are as they were."""
    at_commit(db)
    for table in tables:
        run(db, f"alter table marketplace.{table} disable trigger all")
    yield
    for table in tables:
        run(db, f"alter table marketplace.{table} enable trigger all")
        guards = rows(
            db,
            "select tgname from pg_trigger where tgrelid = %(table)s::regclass and not tgisinternal",
            table=f"marketplace.{table}",
        )
        for guard in guards:
            run(db, f"alter table marketplace.{table} enable always trigger {guard['tgname']}")


def tamper(db: Database, statement: str) -> None:
    """Run a statement on rows, log and attempts past all that guards them."""
    with unguarded(db, "seller_transfers", "transfer_status_log", "transfer_attempts"):
        run(db, statement)


def let_years_pass(db: Database, years: int = 1) -> None:
    """As if all there is of transfers, log and attempts had happened that much earlier."""
    by = f"interval '{years} years'"
    tamper(db, f"update marketplace.transfer_status_log set logged_at = logged_at - {by}")
    tamper(
        db,
        f"update marketplace.transfer_attempts set started_at = started_at - {by}, finished_at = finished_at - {by}",
    )
    tamper(
        db,
        f"update marketplace.seller_transfers set created_at = created_at - {by}, updated_at = updated_at - {by},"
        f" completed_at = completed_at - {by}",
    )


def let_days_pass(db: Database, event_id: str, days: int) -> None:
    """As if this event had come in that much earlier."""
    with unguarded(db, "stripe_events"):
        run(
            db,
            f"update marketplace.stripe_events set received_at = received_at - interval '{days} days'"
            f" where event_id = '{event_id}'",
        )
