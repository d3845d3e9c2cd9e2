"""Where benchmarks run: a PostgreSQL that keeps what it commits, a fresh database each, numbers on standard output."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import click
from psycopg import sql

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.support.databases import Database, open_database
from tests.support.migrations import migrate_database

# As in production where it matters: every commit is flushed. Room for loading a million and a half rows quickly.
_SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min", "autovacuum": "off"}

Measure = Callable[[EmbeddedPostgres], None]


@contextmanager
def fresh_database(server: EmbeddedPostgres, name: str) -> Iterator[tuple[str, Database]]:
    """Give the URI of a new migrated database and a connection to it; it is dropped at the end of the block."""
    identifier = sql.Identifier(name)
    with closing(open_database(server.dsn())) as maintenance:
        maintenance.execute(sql.SQL("create database {}").format(identifier))
        try:
            migrate_database(server.dsn(name))
            with closing(open_database(server.dsn(name))) as db:
                yield server.dsn(name), db
        finally:
            maintenance.execute(sql.SQL("drop database {} with (force)").format(identifier))


def run_benchmarks(*measures: Measure) -> None:
    """Run benchmarks one after the other on a server of their own."""
    with EmbeddedPostgres(settings=_SETTINGS) as server:
        for measure in measures:
            begun = time.monotonic()
            click.echo(f"\n{(measure.__doc__ or '').splitlines()[0]}")
            measure(server)
            click.echo(f"  ({time.monotonic() - begun:.0f} s)")


def say(what: str, number: float, unit: str, note: str = "") -> None:
    """Print one result."""
    shown = f"{number:,.0f}" if number >= 100 else f"{number:.2f}"
    click.echo(f"  {what:<52}{shown:>10} {unit}{f'  {note}' if note else ''}")
