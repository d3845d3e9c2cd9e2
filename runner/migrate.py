"""Brings a database to this program's release: yoyo applies what is pending, then db/functions is loaded, always.

yoyo alone is not enough for an operator (a DBA may still use it: `yoyo apply` works on db/migrations). It loads the
functions only when a migration was pending, keeps its lock row when it is killed, knows no server notices and refuses a
URL with several hosts. All of it happens under an advisory lock of our own, so that two deploys do not meet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import yoyo
from psycopg.pq import TransactionStatus
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from runner.schema import db_folder, migration_ids

# Any constant will do, as long as every release has the same.
_LOCK = 0x5E11E12
_LOCK_WAIT = "10s"
_OLDEST_SERVER = 140000
# yoyo rolls back where nothing was begun; PostgreSQL warns of it.
_NO_TRANSACTION = "25P01"

Notify = Callable[[str], None]


class MigrationRefused(Exception):
    """The database cannot be brought to this release; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done: ids of the migrations applied now, oldest first, and the warnings the server gave."""

    applied: list[str]
    warnings: list[str]


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's backend on connections that psycopg opens from the conninfo as it was given."""

    conninfo: str
    notify: Notify

    def connect(self, dburi: Any) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.conninfo, autocommit=True, application_name="seller-transfers migrate")
        connection.add_notice_handler(
            lambda d: (
                self.notify(" ".join(filter(None, (d.message_primary, d.message_hint))))
                if d.severity_nonlocalized == "WARNING" and d.sqlstate != _NO_TRANSACTION
                else None
            )
        )
        self.schema = None
        return connection

    def list_tables(self, **kwargs: Any) -> list[str]:
        return super().list_tables(**kwargs)  # type: ignore[no-any-return]


def pending_migrations(conninfo: str) -> list[str]:
    """Ids of the migrations that `migrate` would apply, oldest first. Raises psycopg.OperationalError."""
    backend, migrations = _open(conninfo, lambda _: None)
    with backend:
        return [m.id for m in backend.to_apply(migrations)]


def migrate(conninfo: str, report: Notify = lambda _: None) -> Migrated:
    """Apply pending migrations, load db/functions, try constraints that are not valid yet.

    `report` is told each step as it happens. Raises MigrationRefused, or psycopg.OperationalError when the database
    cannot be reached. Whatever it raises, a migration is applied whole or not at all and the functions are those of one
    release.
    """
    warnings: list[str] = []
    with _our_lock(conninfo) as connection:
        if connection.info.server_version < _OLDEST_SERVER:
            raise MigrationRefused("the server is older than PostgreSQL 14")
        _refuse_newer(connection)
        backend, migrations = _open(conninfo, warnings.append)
        with backend:
            # We hold the advisory lock, so nobody else is migrating: a row in yoyo's lock table is a dead migrator's.
            backend.break_lock()
            with backend.lock():
                pending = backend.to_apply(migrations)
                applied = [m.id for m in pending]
                for migration in pending:
                    migration.load()  # yoyo itself skips a file it cannot read, in silence
                    report(f"applying {migration.id}")
                    _run(lambda m=migration: backend.apply_one(m), f"migration {migration.id}")  # type: ignore[misc]
                report("loading functions")
                _run(lambda: backend.run_post_apply(migrations), "loading db/functions")
        connection.add_notice_handler(lambda d: warnings.append(str(d.message_primary)))
        connection.execute("SELECT marketplace.validate_constraints()")
    return Migrated(applied, list(dict.fromkeys(warnings)))


def _run(step: Callable[[], None], what: str) -> None:
    try:
        step()
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise MigrationRefused(f"{what} failed and was rolled back: {str(error).splitlines()[0]}") from error


def _open(conninfo: str, notify: Notify) -> tuple[Any, Any]:
    backend_class = type("_BoundBackend", (_Backend,), {"conninfo": conninfo, "notify": staticmethod(notify)})
    backend = backend_class(parse_uri("postgresql+psycopg://"), "_yoyo_migration")
    backend.init_database()
    return backend, yoyo.read_migrations(str(db_folder() / "migrations"))


@contextmanager
def _our_lock(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that holds the advisory lock, waiting a bounded time for it."""
    with psycopg.connect(conninfo, autocommit=True, application_name="seller-transfers migrate") as connection:
        connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        except psycopg.errors.LockNotAvailable as error:
            raise MigrationRefused(f"another migration is running; it did not end within {_LOCK_WAIT}") from error
        try:
            yield connection
        finally:
            if connection.info.transaction_status is not TransactionStatus.UNKNOWN:
                connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _refuse_newer(connection: psycopg.Connection[Any]) -> None:
    """An older program must not load its functions over a newer schema."""
    known = connection.execute("SELECT to_regclass('marketplace.schema_release') IS NOT NULL").fetchone()
    if known is None or not known[0]:
        return
    head = connection.execute("SELECT migration_head FROM marketplace.schema_release").fetchone()
    if head is not None and head[0] > migration_ids(db_folder())[-1]:
        raise MigrationRefused(
            f"the database is at {head[0]}, newer than this program; install that release to migrate"
        )
