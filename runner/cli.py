"""The command `seller-transfers`. Every way to fail is one clear line and an exit code of its own.

What only one command needs is imported there: Stripe's library and yoyo take as long as all the rest.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NoReturn, TypeVar

import click
import psycopg

from runner.account import KeyRefused, StripeUnreachable
from runner.clean import remember_secret, safe_text
from runner.commands import APPLICATION, bring_events, compare, examine, serve, serve_webhook, tell_status
from runner.connection import DatabaseUnavailable, SchemaUnusable, WrongAccount
from runner.kinds import KINDS
from runner.log import configure_logging
from runner.schema import own_release
from runner.settings import BadSettings, Settings, load_settings
from runner.wording import counted

EXIT_CHECK_FOUND_SOMETHING = 1
EXIT_BAD_USAGE = 2
EXIT_DATABASE_UNREACHABLE = 3
EXIT_SCHEMA_UNUSABLE = 4
EXIT_STRIPE_REFUSED = 5

_LINE_LIMIT = 2_000
_REASON_LIMIT = 500
_NO_RIGHT = "42501"
_RUNNER, _TRIAGE, _READONLY = "marketplace_runner", "marketplace_triage", "marketplace_readonly"
_WEBHOOK = f"{_RUNNER}, or of marketplace_app"
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+/?")
Result = TypeVar("Result")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version(APPLICATION), prog_name=APPLICATION)
def main() -> None:
    """Pays sellers at Stripe, and takes the money back when buyers are refunded: exactly once, by PostgreSQL.

    Settings come from the environment: DATABASE_URL, STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET and SELLER_TRANSFERS_…; the
    README lists them.

    Exit codes: 0 done, 1 a check found something, 2 bad usage or setting, 3 database unreachable at start,
    4 schema missing, older or newer than this program, or the login may not do it, 5 Stripe refused the key or account
    at start, or the key is not of the account that the database belongs to.
    """


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing; exit code 1 if it is anything.")
@click.option(
    "--lock-timeout",
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.01, 60),
    help="How long a statement waits for a lock, for others wait behind it.",
)
@click.option(
    "--tries", default=10, show_default=True, type=click.IntRange(1, 1000), help="How often it is tried, with pauses."
)
def migrate(lock_timeout: float, tries: int, *, dry_run: bool) -> None:
    """Bring the database to this program's release.

    Applies what migrations are pending, then loads all functions. Needs a direct connection as a superuser, or as a
    role that may create roles, and create in the database and in schema public.
    """
    from runner.lock_waits import Patience
    from runner.migrate import MigrationRefused
    from runner.migrate import migrate as migrate_database
    from runner.migration_plan import plan_migration

    conninfo = _settings(need_stripe=False).database_url.get_secret_value()
    try:
        if dry_run:
            plan = plan_migration(conninfo)
            click.echo("\n".join(plan.in_words()))
            sys.exit(EXIT_CHECK_FOUND_SOMETHING if plan.is_something else 0)
        patience = Patience(lock_timeout, tries)
        migrated = migrate_database(conninfo, click.echo, warn=_warn, patience=patience)
    except MigrationRefused as error:
        _fail(EXIT_SCHEMA_UNUSABLE, str(error))
    except psycopg.OperationalError as error:
        _fail(EXIT_DATABASE_UNREACHABLE, f"the database cannot be reached: {_line(error)}")
    except psycopg.Error as error:
        _fail(EXIT_SCHEMA_UNUSABLE, _line(error))
    for warning in migrated.warnings:
        _warn(warning)
    done = f"{counted(len(migrated.applied), 'migration')} applied" if migrated.applied else "no migration was pending"
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
    _run(serve(settings, [kind for kind in KINDS if only in (None, kind.name)]), _RUNNER)


@main.command()
@click.option(
    "--path",
    default="/stripe/events",
    show_default=True,
    help="Where Stripe delivers to; what it calls the URL's path.",
)
def webhook(path: str) -> None:
    """Take in the events that Stripe delivers, until SIGTERM or SIGINT.

    Answers 2xx when an event is in the database. GET /healthz answers 200 while the database does.
    """
    from runner.webhook import CannotListen

    settings = _settings(need_stripe=False, need_webhook=True)
    if not _PATH.fullmatch(path):
        _fail(EXIT_BAD_USAGE, "--path: give a path such as /stripe/events: letters, digits, - _ . and /")
    configure_logging(settings.log_level, settings.log_format)
    try:
        _run(serve_webhook(settings, path), _WEBHOOK)
    except CannotListen as error:
        _fail(EXIT_BAD_USAGE, str(error))


@main.command("catch-up")
@click.option("--since", required=True, metavar="TIME", help="From when on: 3d, 12h or 2026-11-20T08:00:00Z.")
def catch_up(since: str) -> None:
    """Read the events that the webhook missed from Stripe, which keeps them for 30 days.

    Into the same inbox: what is there already is passed over. Exit code 1 if an event was kept because nothing could be
    done about it yet, or if not all could be read; then it says from when to go on.
    """
    from runner.catch_up import BadSince, read_since

    try:
        begins = read_since(since, datetime.now(UTC))
    except BadSince as error:
        _fail(EXIT_BAD_USAGE, f"--since: {error}")
    if not _run(bring_events(_settings(need_stripe=True), begins), _RUNNER):
        sys.exit(EXIT_CHECK_FOUND_SOMETHING)


@main.command("reconcile")
@click.option("--since", metavar="TIME", help="Only transfers made since: 3d, 12h or 2026-11-20T08:00:00Z.")
@click.option("--look-up", metavar="REASON", help="Have the rows looked up that do not know what Stripe did.")
@click.option("--resume", metavar="REASON", help="Let calls go on after a restore, if what was found allows it.")
def reconcile(since: str | None, look_up: str | None, resume: str | None) -> None:
    """Compare Stripe's transfers and reversals with the database.

    Says what differs. Beside live runners, and as a nightly check: it changes nothing unless it is told to. Exit code
    1 if something differs, if Stripe could not be read to the end, or if what it was told to do cannot be done.
    """
    from runner.catch_up import BadSince, read_since

    try:
        begins = None if since is None else read_since(since, datetime.now(UTC), kept_for=None)
    except BadSince as error:
        _fail(EXIT_BAD_USAGE, f"--since: {error}")
    if resume is not None and since is not None:
        _fail(EXIT_BAD_USAGE, "--resume: calls go on only after everything was compared; leave --since out")
    for name, reason in (("--look-up", look_up), ("--resume", resume)):
        if reason is not None and not (reason.strip() and reason.isprintable() and len(reason) <= _REASON_LIMIT):
            _fail(EXIT_BAD_USAGE, f"{name}: give a reason of 1 to {_REASON_LIMIT} printable characters; it is logged")
    group = _RUNNER if look_up is None and resume is None else _TRIAGE
    if not _run(compare(_settings(need_stripe=True), begins, look_up, resume), group):
        sys.exit(EXIT_CHECK_FOUND_SOMETHING)


@main.command()
def status() -> None:
    """Show where the money and the work stand.

    Exit code 1 if a person is needed: for whatever is urgent in needs_attention (a parked row, money that moved twice,
    an event kept for an hour), calls paused because Stripe refuses the key or knows no transfer, or something in the
    schema that is not as it should be.
    """
    if not _run(tell_status(_settings(need_stripe=False)), _READONLY):
        sys.exit(EXIT_CHECK_FOUND_SOMETHING)


@main.command()
@click.option("--stripe", "with_stripe", is_flag=True, help="Also ask Stripe whose key STRIPE_API_KEY is.")
def doctor(with_stripe: bool) -> None:
    """Look for everything that is not as it should be.

    Replays the whole log, compares functions, rights and settings with what they should be, and says what to do about
    each difference. Changes nothing; reads everything, so give it a quiet hour or a standby. Exit code 1 if something
    was found that is more than a note.
    """
    if not _run(examine(_settings(need_stripe=with_stripe), with_stripe=with_stripe), _READONLY):
        sys.exit(EXIT_CHECK_FOUND_SOMETHING)


@main.command()
@click.option(
    "--orders", default=300, show_default=True, type=click.IntRange(20, 5000), help="How many orders to make up."
)
def demo(orders: int) -> None:
    """Show the main job on one machine: payouts, refunds and disputes, with faults.

    On an embedded PostgreSQL and a Stripe simulator; touches nothing else. Exit code 1 if at its end the database and
    the simulator's ledger do not agree.
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


def _settings(*, need_stripe: bool, need_webhook: bool = False) -> Settings:
    try:
        settings = load_settings(os.environ, need_stripe=need_stripe, need_webhook=need_webhook)
    except BadSettings as error:
        _fail(EXIT_BAD_USAGE, str(error))
    for secret in settings.secrets():
        remember_secret(secret)
    return settings


def _run(work: Coroutine[Any, Any, Result], group: str) -> Result:
    """Run to the end, and turn what may go wrong at start into its line and exit code; `group` is who may do it."""
    try:
        return asyncio.run(work)
    except DatabaseUnavailable as error:
        _fail(EXIT_DATABASE_UNREACHABLE, f"the database cannot be reached: {error}")
    except SchemaUnusable as error:
        _fail(EXIT_SCHEMA_UNUSABLE, str(error))
    except psycopg.Error as error:
        _fail(EXIT_SCHEMA_UNUSABLE, _line(error, group))
    except StripeUnreachable as error:
        _fail(EXIT_CHECK_FOUND_SOMETHING, str(error))
    except (KeyRefused, WrongAccount) as error:
        _fail(EXIT_STRIPE_REFUSED, str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _line(error: Exception, group: str | None = None) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if group is not None and getattr(error, "sqlstate", None) == _NO_RIGHT:
        line += f"; the login has to be a member of {group}"
    return safe_text(line, 500)


def _warn(warning: str) -> None:
    click.echo(f"warning: {safe_text(warning, _LINE_LIMIT)}", err=True)


def _fail(code: int, message: str) -> NoReturn:
    with suppress(BrokenPipeError):
        for line in message.splitlines():
            click.echo(f"{APPLICATION}: {safe_text(line, _LINE_LIMIT)}", err=True)
    sys.exit(code)
