"""Brings a database to this program's release: yoyo applies what is pending, then db/functions is loaded, always.

yoyo alone is not enough for an operator (a DBA may still use it: `yoyo apply` works on db/migrations). It loads the
functions only when a migration was pending, keeps its lock row when it is killed, waits for locks without end or gives
up at once, marks an index that was left invalid as built, does not notice an edited file, knows no server notices and
refuses a URL with several hosts. All of it happens under an advisory lock of our own, so that two deploys do not meet,
and with nothing on the search_path that others may have put into schema public: an operator that fits better than
PostgreSQL's own would run with the rights of who migrates.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import yoyo
from psycopg.pq import TransactionStatus
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from runner.installed import MigrationRefused, refuse_what_cannot_work
from runner.invalid_indexes import drop_invalid, invalid_indexes, missing_indexes, statement_to_drop
from runner.lock_waits import SAFE_PATH, LockWatch, Notify, Patience, in_the_way, patiently, why
from runner.migration_files import index_builders
from runner.pooler import is_shared
from runner.schema import db_folder

__all__ = ["Migrated", "MigrationRefused", "migrate"]

# Any constant will do, as long as every release has the same.
_LOCK = 0x5E11E12
_LOCK_WAIT_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.1
_APPLICATION = "seller-transfers migrate"
# yoyo rolls back where nothing was begun; PostgreSQL warns of it.
_NO_TRANSACTION = "25P01"
_NO_RIGHT = "42501"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done: ids of the migrations applied now, oldest first, and the warnings the server gave."""

    applied: list[str]
    warnings: list[str]


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's backend on connections that psycopg opens from the conninfo as it was given."""

    conninfo: str
    notify: Notify
    watch: LockWatch
    lock_timeout_seconds: float
    home: str | None

    def connect(self, dburi: Any) -> psycopg.Connection[Any]:
        connection = _connect(self.conninfo)
        connection.add_notice_handler(_pass_warnings_to(self.notify))
        self.schema = None
        self.home = connection.execute("SELECT pg_catalog.current_schema()").fetchone()[0]  # type: ignore[index]
        connection.execute(f"SET search_path = {SAFE_PATH}")
        connection.execute(f"SET lock_timeout = '{self.lock_timeout_seconds * 1000:.0f}ms'")
        connection.execute("SET marketplace.guards_may_change = 'on'")
        self.watch.add(connection.info.backend_pid)
        return connection

    def quote_identifier(self, s: str) -> str:
        quoted: str = super().quote_identifier(s)
        ours = s in (self.migration_table, self.lock_table, self.log_table, self.version_table)
        return f"{super().quote_identifier(self.home)}.{quoted}" if ours else quoted

    def list_tables(self, **kwargs: Any) -> list[str]:
        found = self.execute(
            "SELECT c.relname FROM pg_class AS c INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :home AND c.relkind = 'r'",
            {"home": self.home},
        )
        return [name for (name,) in found.fetchall()]

    def _check_transactional_ddl(self) -> bool:
        return True  # asked by making a table, where none is to be made


class _Migrator:
    """One migration of one database, under the lock."""

    def __init__(
        self, connection: psycopg.Connection[Any], watch: LockWatch, report: Notify, warn: Notify, patience: Patience
    ) -> None:
        self._connection = connection
        self._watch = watch
        self._report = report
        self._warn = warn
        self._patience = patience
        self._builders = index_builders(db_folder())
        watch.add(connection.info.backend_pid)

    def bring_up(self, backend: Any, migrations: Any) -> list[str]:
        """Apply what is pending and load the functions; gives the ids of what was applied."""
        with self._refusing("preparing yoyo's tables"):
            backend.init_database()
            # We hold the advisory lock, no other deploy is migrating: a row in yoyo's lock table is a dead migrator's.
            backend.break_lock()
            self._make_room_for_indexes(backend, migrations)
            pending = backend.to_apply(migrations)
        with backend.lock():
            applied = [migration.id for migration in pending]
            for migration in pending:
                migration.load()  # yoyo itself skips a file it cannot read, in silence
                self._report(f"applying {migration.id}")
                self._apply(backend, migration)
            self._report("loading functions")
            self._patiently("loading db/functions", lambda: backend.run_post_apply(migrations))
        return applied

    def validate_constraints(self) -> None:
        """Try those that are not valid yet."""
        self._connection.execute(f"SET lock_timeout = '{self._patience.lock_timeout_seconds * 1000:.0f}ms'")
        self._patiently(
            "validating constraints", lambda: self._connection.execute("SELECT marketplace.validate_constraints()")
        )

    def look_at_indexes(self) -> None:
        """Say which are not valid. Ours were all built a moment ago."""
        for index in invalid_indexes(self._connection):
            if index.name in self._builders:
                raise MigrationRefused(f"index {index.name} is not valid; run migrate again")
            if index.built_by is None:
                self._warn(
                    f"index {index.name} is not valid and is none of ours, perhaps left by REINDEX CONCURRENTLY: "
                    + statement_to_drop(index.name)
                )

    def _make_room_for_indexes(self, backend: Any, migrations: Any) -> None:
        """Drop what is left of builds that were cut off. What is missing is built, though its migration is marked."""
        for index in invalid_indexes(self._connection):
            if index.name in self._builders and index.built_by is not None:
                raise MigrationRefused(f"index {index.name} is being built by pid {index.built_by}; wait for its end")
        drop_invalid(self._connection, self._builders, self._report)
        again = {self._builders[name] for name in missing_indexes(self._connection, self._builders)}
        for migration in migrations:
            if migration.id in again and backend.is_applied(migration):
                backend.unmark_one(migration)

    def _apply(self, backend: Any, migration: Any) -> None:
        what = f"migration {migration.id}"
        if migration.use_transactions:
            self._patiently(what, lambda: backend.apply_one(migration))
            return
        # A concurrent index build waits for old transactions without stopping anybody, so it may take its time.
        type(backend).lock_timeout_seconds = 0
        try:
            self._patiently(what, lambda: self._build(backend, migration))
        finally:
            type(backend).lock_timeout_seconds = self._patience.lock_timeout_seconds

    def _build(self, backend: Any, migration: Any) -> None:
        """Apply a migration that builds an index; if it cannot, nothing invalid stays that would be in writers' way."""
        try:
            backend.apply_one(migration)
        except psycopg.Error as error:
            # Of a server that is gone, or is about to be, the next migrator clears up.
            if not _is_gone(error):
                with suppress(psycopg.Error):
                    drop_invalid(self._connection, self._builders, self._report)
            raise

    def _patiently(self, what: str, work: Any) -> None:
        with self._refusing(what):
            patiently(what, work, self._watch, self._patience, self._warn)

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """What the server refuses is a MigrationRefused; that it is gone stays a psycopg.OperationalError."""
        try:
            yield
        except psycopg.Error as error:
            if _is_gone(error):
                raise
            said = f"{what} failed: {str(error).splitlines()[0]}"
            if in_the_way(error):
                said += f": {why(error, self._watch)}; end what is in the way or wait, and run migrate again"
            elif error.diag.message_detail:
                said += f": {' '.join(error.diag.message_detail.split())}"
            elif error.sqlstate == _NO_RIGHT:
                said += f". {error.diag.message_hint or 'Migrate as a role that may, or as a superuser.'}"
            raise MigrationRefused(said) from error


def migrate(
    conninfo: str,
    report: Notify = lambda _: None,
    *,
    warn: Notify = lambda _: None,
    patience: Patience | None = None,
) -> Migrated:
    """Apply pending migrations, load db/functions, try constraints that are not valid yet.

    `report` is told each step as it happens, `warn` who is in the way of a lock. Raises MigrationRefused, or
    psycopg.OperationalError when the database cannot be reached. Whatever it raises, a migration is applied whole or
    not at all and the functions are those of one release.
    """
    patience = patience or Patience()
    warnings: list[str] = []
    with _our_lock(conninfo) as connection, LockWatch(conninfo, warn) as watch:
        refuse_what_cannot_work(connection)
        connection.execute(f"SET search_path = {SAFE_PATH}")
        migrator = _Migrator(connection, watch, report, warn, patience)
        facts = {
            "conninfo": conninfo,
            "notify": staticmethod(warnings.append),
            "watch": watch,
            "lock_timeout_seconds": patience.lock_timeout_seconds,
        }
        migrations = yoyo.read_migrations(str(db_folder() / "migrations"))
        with type("_BoundBackend", (_Backend,), facts)(
            parse_uri("postgresql+psycopg://"), "_yoyo_migration"
        ) as backend:
            applied = migrator.bring_up(backend, migrations)
        connection.add_notice_handler(_pass_warnings_to(warnings.append))
        migrator.validate_constraints()
        migrator.look_at_indexes()
    return Migrated(applied, list(dict.fromkeys(warnings)))


def _is_gone(error: psycopg.Error) -> bool:
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _pass_warnings_to(notify: Notify) -> Any:
    def handle(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate != _NO_TRANSACTION:
            notify(" ".join(filter(None, (notice.message_primary, notice.message_hint))))

    return handle


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo, autocommit=True, application_name=_APPLICATION)


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
        while connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise MigrationRefused(
                    f"another migration is running; it did not end within {_LOCK_WAIT_SECONDS:.0f} s"
                )
            time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield connection
        finally:
            if connection.info.transaction_status is not TransactionStatus.UNKNOWN:
                connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (_LOCK,))
