"""The way of events into the database: a few connections that take turns, and a bound on who may wait for one."""

import asyncio
from contextlib import suppress

from runner.connection import Conflicted, DatabaseUnavailable
from runner.database import Database
from runner.event import Event
from runner.records import IngestedEvent

# Together less than the ten seconds after which a sender may have given up: it is to hear of it.
WAIT_SECONDS = 3.0
STATEMENT_SECONDS = 6.0
# A queue that is not bounded answers everybody too late.
_WAITING_PER_CONNECTION = 64
_TRIES = 3


class InboxFull(DatabaseUnavailable):
    """More events come in than the database takes; this one may come again later."""


async def ingest(database: Database, event: Event, raw_sha256: str | None) -> IngestedEvent:
    """Give what became of the event; tried again at once where two events were in each other's way."""
    for _ in range(_TRIES - 1):
        with suppress(Conflicted):
            return await database.ingest_stripe_event(event, raw_sha256)
    return await database.ingest_stripe_event(event, raw_sha256)


class Inbox:
    """Takes events in, up to `connections` at once, each in a transaction of its own."""

    def __init__(self, conninfo: str, application_name: str, connections: int) -> None:
        # The one last used first: what one connection can do needs no second.
        self._idle: asyncio.LifoQueue[Database] = asyncio.LifoQueue()
        self._databases = [
            Database(conninfo, application_name, statement_seconds=STATEMENT_SECONDS) for _ in range(connections)
        ]
        for database in self._databases:
            self._idle.put_nowait(database)
        self._waiting = 0
        self._waiting_limit = connections * _WAITING_PER_CONNECTION

    async def ingest(self, event: Event, raw_sha256: str | None) -> IngestedEvent:
        """Give what became of the event, once that is committed.

        Raises InboxFull before anything is done; DatabaseUnavailable if that may pass, whether or not it was committed;
        psycopg.Error if it will not, and SchemaUnusable.
        """
        database = await self._turn()
        try:
            return await ingest(database, event, raw_sha256)
        finally:
            self._idle.put_nowait(database)

    async def close(self) -> None:
        """Close the connections."""
        for database in self._databases:
            await database.close()

    async def _turn(self) -> Database:
        if not self._waiting and not self._idle.empty():
            return self._idle.get_nowait()
        if self._waiting >= self._waiting_limit:
            raise InboxFull(f"{self._waiting} events wait for a connection already")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._idle.get()
        except TimeoutError:
            raise InboxFull(f"no connection was free within {WAIT_SECONDS:g} s") from None
        finally:
            self._waiting -= 1
