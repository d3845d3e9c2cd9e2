"""Brings a test's database up to this checkout's schema and functions."""

from runner.migrate import migrate


def migrate_database(dsn: str) -> None:
    """Apply every migration and load all functions, as `seller-transfers migrate` does."""
    migrate(dsn)
