"""Whether a session is ours alone, or a pooler in transaction mode hands it to others between our transactions.

What a session keeps (SET, LISTEN, advisory locks) is then not kept for us, and left behind for others. No pooler says
so, but it gives itself away: with a process id that is not the server's it has come between, and two clients of
its transaction mode meet on one server process.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

_ASK = "SELECT pg_catalog.pg_backend_pid()"
# Others that use the pool may come between two questions.
_TRIES = 10


class SessionShared(Exception):
    """The session is not ours alone: what needs one that is cannot be done."""


def is_shared(connection: psycopg.Connection[Any], open_another: Callable[[], psycopg.Connection[Any]]) -> bool:
    """Whether others get this session between our transactions; where something is in between, it takes another one."""
    if _pid(connection) == connection.info.backend_pid:
        return False
    with open_another() as other:
        return any(_gives_away(_pid(connection), _pid(connection), _pid(other)) for _ in range(_TRIES))


async def is_shared_async(
    connection: psycopg.AsyncConnection[Any], open_another: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]
) -> bool:
    """As `is_shared`."""
    if await _pid_async(connection) == connection.info.backend_pid:
        return False
    async with await open_another() as other:
        for _ in range(_TRIES):
            if _gives_away(await _pid_async(connection), await _pid_async(connection), await _pid_async(other)):
                return True
    return False


def _gives_away(first: int, again: int, other: int) -> bool:
    return first != again or again == other


def _pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_ASK, prepare=False).fetchone()
    return int(row[0]) if row else 0


async def _pid_async(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute(_ASK, prepare=False)).fetchone()
    return int(row[0]) if row else 0
