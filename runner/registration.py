"""Telling the database whose Stripe key this runner has, as often as the database wants to know.

Only a registered worker may claim. A 401 of Stripe's ends its registration, a failover may lose it; then the key is
checked and the worker registered anew, however long that takes: a key that was revoked and is restored needs nobody.
"""

import asyncio
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Protocol

import psycopg
import structlog

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.clean import safe_text
from runner.connection import DatabaseUnavailable, NotRegistered, WrongAccount
from runner.database import Database

_FIRST_DELAY_SECONDS = 0.1
_LAST_DELAY_SECONDS = 30.0
# A registration that ends sooner than this counts as another failure: a key that Stripe accepts for one thing and
# refuses for the next is not tried without end, one call after the other.
_LASTING_SECONDS = 60.0

VERSION = version("seller-transfers")
_log = structlog.get_logger()


class AccountChecker(Protocol):
    """Who asks Stripe: runner.gateway.Gateway."""

    async def check_account(self) -> Account:
        """Whose key it is. Raises KeyRefused or StripeUnreachable."""


class Registration:
    """Of one worker, by the connection that it claims with; until `stopping` is set."""

    def __init__(self, worker: str, stripe: AccountChecker, database: Database, stopping: asyncio.Event) -> None:
        self._worker = worker
        self._stripe = stripe
        self._database = database
        self._stopping = stopping
        self._registered_at = 0.0  # time.monotonic()
        self._delay = 0.0
        self._failure: type[Exception] | None = None

    async def begin(self) -> Account | None:
        """Register for the first time; None if stopped before that.

        Raises KeyRefused, WrongAccount, and psycopg.Error or SchemaUnusable for a database that cannot do it. A Stripe
        that does not answer, and a database that is away, are waited for.
        """
        while not self._stopping.is_set():
            try:
                return await self._register()
            except (StripeUnreachable, DatabaseUnavailable) as error:
                await self._wait_after(error)
        return None

    async def renew(self, ended: NotRegistered) -> None:
        """Register again, or return when stopped. Raises SchemaUnusable."""
        if time.monotonic() - self._registered_at > _LASTING_SECONDS:
            self._delay = 0.0
        if self._delay > 0.0:
            await self._sleep()
        while not self._stopping.is_set():
            try:
                if account := await self._register():
                    why = safe_text(str(ended), 300)
                    _log.info("registered again", account=account.id, livemode=account.livemode, before=why)
                    return
            except (KeyRefused, WrongAccount, StripeUnreachable, DatabaseUnavailable, psycopg.Error) as error:
                await self._wait_after(error)

    async def _register(self) -> Account | None:
        """Check the key and register; None if stopped meanwhile."""
        work = asyncio.create_task(self._check_and_register())
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            return await work if work.done() else None
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)

    async def _check_and_register(self) -> Account:
        account = await self._stripe.check_account()
        await self._database.register_runner(self._worker, VERSION, account.id, account.livemode)
        self._registered_at = time.monotonic()
        self._failure = None
        self._delay = max(self._delay, _FIRST_DELAY_SECONDS)
        return account

    async def _wait_after(self, error: Exception) -> None:
        """Say what is in the way, once, and wait before the next try, each time longer."""
        if type(error) is not self._failure:
            # The wrong account does not pass by itself.
            say = _log.error if isinstance(error, WrongAccount) else _log.warning
            say("cannot register; trying again until it works", reason=safe_text(str(error), 500))
        self._failure = type(error)
        self._delay = max(self._delay, _FIRST_DELAY_SECONDS)
        await self._sleep()

    async def _sleep(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._delay):
                await self._stopping.wait()
        self._delay = min(self._delay * 2, _LAST_DELAY_SECONDS)
