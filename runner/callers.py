"""Who is connected to the endpoint: bounded in number, and in what is held of bodies that are not there yet.

Anybody can connect, send half a delivery and wait; that must not keep Stripe out. Where there is no room, whoever has
shown no good signature makes it, who came first going first: an honest delivery is there a moment after its connection
is, and one that dawdles is as old as it looks.
"""

import asyncio
import time

import structlog
from aiohttp import web

# Below the thousand files that a process may usually have open, with room for the database and what else is open.
CALLER_LIMIT = 512
# Of all bodies that are being read, together.
BYTES_LIMIT = 64 << 20
_LOG_SECONDS = 10.0

_log = structlog.get_logger()


class Callers:
    """The connections: strangers, those whose delivery is being stored, and those that have delivered before."""

    def __init__(self) -> None:
        # Each in the order in which they came to be there.
        self._strangers: dict[object, asyncio.Transport] = {}
        self._served: dict[object, asyncio.Transport] = {}
        self._known: dict[object, asyncio.Transport] = {}
        self._held: dict[object, int] = {}
        self._bytes = 0
        self._dropped = 0
        self._logged_at = -_LOG_SECONDS

    def came(self, caller: object, transport: asyncio.Transport) -> None:
        """Let a connection in, if need be by closing another."""
        if len(self._strangers) + len(self._served) + len(self._known) >= CALLER_LIMIT:
            self._drop(next(iter(self._strangers or self._known), caller), transport)
        self._strangers[caller] = transport

    def left(self, caller: object) -> None:
        """Forget a connection that was closed."""
        for group in (self._strangers, self._served, self._known):
            group.pop(caller, None)
        self.release(caller)

    def hold(self, caller: object, count: int) -> None:
        """Count what has come of a body; of too much in all, the longest held goes."""
        self._held[caller] = self._held.get(caller, 0) + count
        self._bytes += count
        while self._bytes > BYTES_LIMIT and len(self._held) > 1:
            self._drop(next(iter(self._held)))

    def release(self, caller: object) -> None:
        """Count the caller's body no more: it is complete, or refused."""
        self._bytes -= self._held.pop(caller, 0)

    def serve(self, caller: object) -> None:
        """Keep a caller while its delivery is stored: the signature is good."""
        transport = self._strangers.pop(caller, None) or self._known.pop(caller, None)
        if transport is not None:
            self._served[caller] = transport

    def served(self, caller: object) -> None:
        """Let a caller go last from now on: it has delivered something."""
        transport = self._served.pop(caller, None)
        if transport is not None:
            self._known[caller] = transport

    def _drop(self, caller: object, newcomer: asyncio.Transport | None = None) -> None:
        transport = self._strangers.get(caller) or self._known.get(caller) or newcomer
        self.left(caller)
        if transport is not None:
            transport.abort()
        self._dropped += 1
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            _log.warning("too many connections, or too much of unfinished deliveries", closed=self._dropped)
            self._logged_at, self._dropped = time.monotonic(), 0


class Server(web.Server):
    """An HTTP server that knows its callers."""

    callers: Callers

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count the connection in."""
        super().connection_made(handler, transport)
        self.callers.came(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Count it out."""
        super().connection_lost(handler, exc)
        self.callers.left(handler)
