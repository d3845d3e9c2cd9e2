"""Brings a database to this program's release: yoyo applies what is pending, then db/functions is loaded, always.

yoyo alone is not enough for an operator (a DBA may still use it: `yoyo apply` works on db/migrations). It loads the
functions only when a migration was pending, keeps its lock row when it is killed, knows no server notices and refuses a
URL with several hosts. All of it happens under an advisory lock of our own, so that two deploys do not meet.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import yoyo
from psycopg.pq import TransactionStatus
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from runner.pooler import is_shared
from runner.schema import db_folder, migration_ids

# Any constant will do, as long as every release has the same.
_LOCK = 0x5E11E12
_LOCK_WAIT_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.1
# While a statement of a migration waits for its lock, everybody else queues up behind it.
_DDL_LOCK_TIMEOUT = "5s"
_OLDEST_SERVER = 140000
# yoyo rolls back where nothing was begun; PostgreSQL warns of it.
_NO_TRANSACTION = "25P01"
_NO_LOCK = "55P03"

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
    lock_timeout = _DDL_LOCK_TIMEOUT

    def connect(self, dburi: Any) -> psycopg.Connection[Any]:
        connection = _connect(self.conninfo)
        connection.add_notice_handler(_pass_warnings_to(self.notify))
        self.schema = None
        connection.execute(f"SET lock_timeout = '{self.lock_timeout}'")
        connection.execute("SET marketplace.guards_may_change = 'on'")
        return connection

    def list_tables(self, **kwargs: Any) -> list[str]:
        return super().list_tables(**kwargs)  # type: ignore[no-any-return]  # yoyo has no types


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
        _refuse_what_cannot_work(connection)
        with _refusing("reading the installed release"):
            _refuse_newer(connection)
        backend_class = type(
            "_BoundBackend", (_Backend,), {"conninfo": conninfo, "notify": staticmethod(warnings.append)}
        )
        migrations = yoyo.read_migrations(str(db_folder() / "migrations"))
        with backend_class(parse_uri("postgresql+psycopg://"), "_yoyo_migration") as backend:
            applied = _apply(backend, migrations, report)
        connection.add_notice_handler(_pass_warnings_to(warnings.append))
        with _refusing("validating constraints"):
            connection.execute("SELECT marketplace.validate_constraints()")
    return Migrated(applied, list(dict.fromkeys(warnings)))


def _apply(backend: Any, migrations: Any, report: Notify) -> list[str]:
    with _refusing("preparing yoyo's tables"):
        backend.init_database()
        # We hold the advisory lock, so no other deploy is migrating: a row in yoyo's lock table is a dead migrator's.
        backend.break_lock()
        pending = backend.to_apply(migrations)
    with backend.lock():
        applied = [m.id for m in pending]
        for migration in pending:
            migration.load()  # yoyo itself skips a file it cannot read, in silence
            report(f"applying {migration.id}")
            # A concurrent index build waits for old transactions without stopping anybody, so it may take its time.
            type(backend).lock_timeout = _DDL_LOCK_TIMEOUT if migration.use_transactions else "0"
            with _refusing(f"migration {migration.id}"):
                backend.apply_one(migration)
        type(backend).lock_timeout = _DDL_LOCK_TIMEOUT
        report("loading functions")
        with _refusing("loading db/functions"):
            backend.run_post_apply(migrations)
    return applied


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What the server refuses is a MigrationRefused; that it is gone stays a psycopg.OperationalError."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise
        again = "; another transaction is in the way: run migrate again" if error.sqlstate == _NO_LOCK else ""
        raise MigrationRefused(f"{what} failed: {str(error).splitlines()[0]}{again}") from error


def _pass_warnings_to(notify: Notify) -> Callable[[psycopg.errors.Diagnostic], None]:
    def handle(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate != _NO_TRANSACTION:
            notify(" ".join(filter(None, (notice.message_primary, notice.message_hint))))

    return handle


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo, autocommit=True, application_name="seller-transfers migrate")


@contextmanager
def _our_lock(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that holds the advisory lock, waiting a bounded time for it."""
    with _connect(conninfo) as connection:
        # Before the first SET: it would stay behind in the pool, for runners and apps.
        if is_shared(connection, lambda: _connect(conninfo)):
            raise MigrationRefused(
                "migrate needs a direct connection: between here and the server is a pooler in transaction mode,"
                " which hands the session and its locks to others; give DATABASE_URL the server's own address"
            )
        connection.execute(f"SET lock_timeout = '{_LOCK_WAIT_SECONDS:.0f}s'")
        # Asked for again and again, not waited for: a statement that waits keeps a snapshot, which the other migrator's
        # CREATE INDEX CONCURRENTLY would wait for in turn.
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        while connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise MigrationRefused(
                    f"another migration is running; it did not end within {_LOCK_WAIT_SECONDS:.0f} s"
                )
            time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield connection
        finally:
            if connection.info.transaction_status is not TransactionStatus.UNKNOWN:
                connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _refuse_what_cannot_work(connection: psycopg.Connection[Any]) -> None:
    """Say now what yoyo would say in riddles, half-way."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationRefused(
            f"the database's encoding is {encoding} and must be UTF8:"
            " create database … encoding 'UTF8' template template0"
        )
    may = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), has_schema_privilege('public', 'CREATE')"
    ).fetchone()
    if may != (True, True):
        raise MigrationRefused(
            f"role {connection.info.user} may not create in the database and in its schema public; migrate as its owner"
        )


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
