"""What the commands do, from a connection to its end; the command line and its exit codes are in runner.cli."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import click
import structlog

from runner.database import Database
from runner.kinds import Kind
from runner.schema import own_release
from runner.settings import Settings
from runner.status import show_status
from runner.worker import Worker

if TYPE_CHECKING:
    from runner.gateway import Gateway

APPLICATION = "seller-transfers"
_COMPARE_SECONDS = 3_600.0

_log = structlog.get_logger()


async def serve(settings: Settings, kinds: Sequence[Kind]) -> None:
    """Be a runner of these kinds of work, until a signal."""
    await _require_release(settings)
    async with _gateway(settings) as gateway:
        worker = Worker(settings, gateway, kinds)
        _stop_on_signals(worker.stop)
        await worker.run()
        _log.info("stopped")


async def serve_webhook(settings: Settings, path: str) -> None:
    """Take in deliveries at this path, until a signal. Raises CannotListen."""
    from runner.webhook import Webhook

    await _require_release(settings)
    endpoint = Webhook(settings, path)
    _stop_on_signals(endpoint.stop)
    await endpoint.run()
    _log.info("stopped")


async def bring_events(settings: Settings, since: datetime) -> bool:
    """Say what came of it; True if all is well. Raises StripeUnreachable."""
    from runner.catch_up import catch_up, show

    database = Database(settings.database_url.get_secret_value(), f"{APPLICATION} catch-up")
    try:
        await database.require_release(own_release())
        async with _gateway(settings) as gateway:
            # As a runner does: the events of another account, or of the other mode, would be taken for ours.
            account = await gateway.check_account()
            await database.register_runner(settings.worker, version(APPLICATION), account.id, account.livemode)
            done = await catch_up(gateway, database, since, datetime.now(UTC) + timedelta(seconds=1), _tell)
    finally:
        await database.close()
    return show(done)


async def compare(settings: Settings, since: datetime | None, look_up: str | None, resume: str | None) -> bool:
    """Say what came of it; True if nothing differs. Raises StripeUnreachable."""
    from runner.differences import show, show_actions
    from runner.reconcile import act, reconcile

    # Comparing takes a while where there are many rows.
    database = Database(
        settings.database_url.get_secret_value(), f"{APPLICATION} reconcile", statement_seconds=_COMPARE_SECONDS
    )
    try:
        await database.require_release(own_release())
        async with _gateway(settings) as gateway:
            account = await gateway.check_account()
            compared = await reconcile(gateway, database, account, since, _tell)
        agree = show(compared)
        await act(database, compared, look_up, resume)
        return show_actions(compared) and agree
    finally:
        await database.close()


async def tell_status(settings: Settings) -> bool:
    """Show how things stand; True if nobody is needed."""
    database = Database(settings.database_url.get_secret_value(), f"{APPLICATION} status")
    try:
        await database.require_release(own_release())
        return await show_status(database)
    finally:
        await database.close()


async def examine(settings: Settings, *, with_stripe: bool) -> bool:
    """Show what is not as it should be; True if that is nothing but notes."""
    from runner.doctor import STATEMENT_SECONDS, show_examination

    database = Database(
        settings.database_url.get_secret_value(), f"{APPLICATION} doctor", statement_seconds=STATEMENT_SECONDS
    )
    try:
        await database.require_release(own_release())
        if not with_stripe:
            return await show_examination(database, None)
        async with _gateway(settings) as gateway:
            return await show_examination(database, gateway.check_account)
    finally:
        await database.close()


def _tell(words: str) -> None:
    click.echo(f"{APPLICATION}: {words}", err=True)


async def _require_release(settings: Settings) -> None:
    database = Database(settings.database_url.get_secret_value(), f"{APPLICATION} start")
    try:
        await database.require_release(own_release())
    finally:
        await database.close()


def _gateway(settings: Settings) -> "Gateway":
    from runner.gateway import Gateway

    return Gateway(
        settings.stripe_api_key.get_secret_value(),
        settings.stripe_api_base,
        settings.slots,
        settings.call_deadline_seconds,
    )


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """The first signal stops gracefully, the second at once: leases lapse, and what was in flight is unknown."""
    received: list[int] = []

    def on_signal(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
