"""Waiting: for whatever happens first, and longer each time while something fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from runner.account import StripeUnreachable
from runner.clean import safe_text
from runner.connection import DatabaseUnavailable

# Seconds between tries of one request that only reads: a rate limit or an outage of a minute does not end a long list.
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_FIRST_SECONDS = 0.1
_LAST_SECONDS = 5.0

Result = TypeVar("Result")

_log = structlog.get_logger()


class Backoff:
    """Growing delays while something fails; says so when it begins and when it is over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._delay = 0.0

    def next_delay(self, error: Exception) -> float:
        """Seconds to wait after this failure."""
        if self._delay == 0.0 or not isinstance(error, DatabaseUnavailable):
            _log.warning(f"{self._what} fails", error=safe_text(str(error), 300))
        self._delay = min(max(self._delay * 2, _FIRST_SECONDS), _LAST_SECONDS)
        return self._delay

    def over(self) -> None:
        """It works."""
        if self._delay > 0.0:
            _log.info(f"{self._what} works again")
        self._delay = 0.0


async def first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of the events is set, or for this long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*waits, return_exceptions=True)


async def until_answered(request: Callable[[], Awaitable[Result]], tell: Callable[[str], None]) -> Result:
    """Make a request that only reads, and again for a minute while Stripe does not answer it. Raises StripeUnreachable.

    `tell` is told of each further try.
    """
    for delay in (*RETRY_DELAYS, None):
        try:
            return await request()
        except StripeUnreachable as error:
            if delay is None:
                raise
            tell(f"{safe_text(str(error), 300)}; trying again in {delay:g} s")
            await asyncio.sleep(delay)
    raise AssertionError("the last try returns or raises")
