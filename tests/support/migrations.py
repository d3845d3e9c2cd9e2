"""Brings a test's database up to this checkout's schema and functions."""

from contextlib import closing

from runner.migrate import migrate
from tests.support.databases import open_database
from tests.support.transfers import register

WORKERS = ("worker-1", "worker-2")


def migrate_database(dsn: str) -> None:
    """Apply every migration and load all functions, as `seller-transfers migrate` does; then make room for tests.

    Calls cost nothing, and the workers of tests/support/transfers.py may claim. No Stripe account is pinned.
    """
    migrate(dsn)
    with closing(open_database(dsn)) as db:
        db.execute("update marketplace.stripe_control set rate = null")
        for worker in WORKERS:
            register(db, worker)
