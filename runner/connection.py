"""One connection to the database, and what its errors mean to the rest of the program.

Each call is one statement in a transaction of its own, so that nothing is open while Stripe is called. Connections may
pass through a pooler in transaction mode: no prepared statements, no SET; only `listen` needs a session.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import class_row

from runner.clean import safe_text
from runner.pooler import SessionShared, is_shared_async
from runner.servers import count_servers

Row = TypeVar("Row")

# Of several servers each may be silent, and the one that answers must still have its turn.
_CONNECT_SECONDS = 10
_CONNECT_SECONDS_IN_ALL = 20
# Longer than any of these functions takes; an answer after that would come from a database that is gone.
_STATEMENT_SECONDS = 30
_CHANNEL = "seller_transfers_due"
# Beside lost connections: deadlock and serialization (40), resources (53), locks (55), shutdown and start-up (57),
# input and output (58), and a server that has become a read-only standby.
_PASSING = ("40", "53", "55", "57", "58")
_READ_ONLY = "25006"
_WRONG_ACCOUNT = "ST006"
_NOT_REGISTERED = "ST008"
_NOT_AS_THINGS_STAND = "ST012"
_ANOTHER_DATABASE = "ST014"
_RUNNER_TOO_OLD = "ST015"

_log = structlog.get_logger()


class DatabaseUnavailable(Exception):
    """The database cannot be reached, or cannot do it now; the call may succeed later. The text has no password."""


class Conflicted(DatabaseUnavailable):
    """Another transaction was in the way; the same call may do at once."""


class RowsLocked(DatabaseUnavailable):
    """Another transaction has held a row for too long; the others need not wait for it."""


class WrongAccount(Exception):
    """The Stripe key is of another account or mode than the database; the text names both and the key it takes."""


class NotRegistered(Exception):
    """The worker may not claim until it has registered, again perhaps; the text says why."""


class NotResumed(Exception):
    """What is asked for cannot be done as things stand; the text says why, and what to do."""


class SchemaUnusable(Exception):
    """The schema is missing or not the one this program was built for; the text says what to do."""


class Connection:
    """One connection that is made when it is needed and made anew after it broke. Calls take turns."""

    def __init__(self, conninfo: str, application_name: str, *, statement_seconds: float = _STATEMENT_SECONDS) -> None:
        self._conninfo = conninfo
        self._application_name = application_name
        self._statement_seconds = statement_seconds
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self._told: str | None = None

    async def close(self) -> None:
        """Close the connection; the next call would open one again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _log_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """Log that no call is made because the database is not the one it was; once, for it is told at every claim."""
        text = notice.message_primary
        if notice.sqlstate == _ANOTHER_DATABASE and text is not None and text != self._told:
            self._told = text
            hint = safe_text(notice.message_hint or "", 500)
            _log.warning("the database is not the one it was", what=safe_text(text, 1000), hint=hint)

    async def call(self, row_class: type[Row], statement: str, arguments: tuple[Any, ...]) -> list[Row]:
        """Run a statement that returns rows of this class; raises as Database says."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._statement_seconds):
                    if self._connection is None:
                        self._connection = await _connect(self._conninfo, self._application_name)
                        self._connection.add_notice_handler(self._log_notice)
                    async with self._connection.cursor(row_factory=class_row(row_class)) as cursor:
                        await cursor.execute(statement, arguments)
                        return await cursor.fetchall()
            except TypeError as error:
                # It was migrated while this program ran: the row has other columns than its class.
                raise SchemaUnusable(
                    "the functions in the database are of another release than this program; install that release"
                ) from error
            except BaseException as error:
                # Cancelled or timed out in the middle, a connection is in nobody knows what state.
                if not isinstance(error, psycopg.Error) or self._connection is None or self._connection.broken:
                    await self.close()
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    raise RowsLocked(_first_line(error)) from error
                if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
                    raise Conflicted(_first_line(error)) from error
                if _may_pass(error):
                    await self.close()
                    raise DatabaseUnavailable(_first_line(error)) from error
                if isinstance(error, psycopg.Error):
                    _raise_refusal(error)
                raise


async def listen(conninfo: str, application_name: str) -> AsyncIterator[None]:
    """Yield when listening has begun and at every NOTIFY, until the connection breaks: DatabaseUnavailable.

    Raises SessionShared behind a pooler in transaction mode: notices would go to whoever has the session then.
    """
    try:
        async with await _connect(conninfo, application_name) as connection:
            if await is_shared_async(connection, lambda: _connect(conninfo, application_name)):
                raise SessionShared("a pooler in transaction mode hands the session that would listen to others")
            await connection.execute(f"LISTEN {_CHANNEL}")
            yield
            async for _ in connection.notifies():
                yield
    except (psycopg.Error, TimeoutError) as error:
        raise DatabaseUnavailable(_first_line(error)) from error
    raise DatabaseUnavailable("the connection that listens was closed")


async def _connect(conninfo: str, application_name: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        application_name=application_name,
        connect_timeout=max(2, min(_CONNECT_SECONDS, _CONNECT_SECONDS_IN_ALL // count_servers(conninfo))),
        # A peer that vanished without a word is noticed in half a minute instead of hours.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=4,
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, TimeoutError | psycopg.OperationalError | psycopg.InterfaceError):
        return True
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and (state[:2] in _PASSING or state == _READ_ONLY)


def _raise_refusal(error: psycopg.Error) -> None:
    """Raise what the runner branches on as an exception of its own."""
    if error.sqlstate == _WRONG_ACCOUNT:
        raise WrongAccount(f"{_first_line(error)}. {error.diag.message_hint}") from error
    if error.sqlstate == _NOT_REGISTERED:
        raise NotRegistered(_first_line(error)) from error
    if error.sqlstate == _RUNNER_TOO_OLD:
        raise SchemaUnusable(f"{_first_line(error)}. {error.diag.message_hint}") from error
    if error.sqlstate == _NOT_AS_THINGS_STAND:
        raise NotResumed(f"{_first_line(error)}. {error.diag.message_hint}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
