"""`seller-transfers demo`: the main job on an embedded PostgreSQL and a simulator of Stripe, from start to end.

The demo plays everybody but the runners and the webhook: the app that pays sellers and requests refunds, the buyers and
their banks, the DBA, Stripe with its troubles, and whoever kills a process. At the end it compares the database with
Stripe's ledger.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import click
import psycopg
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from runner.migrate import MigrationRefused, migrate
from runner.sandbox.demo_app import App
from runner.sandbox.demo_folder import (
    DEMO_DATABASE,
    demo_data_folder,
    leave_out_settings,
    psql_command,
    sandbox_folder,
    shown,
)
from runner.sandbox.demo_ledger import find_differences
from runner.sandbox.demo_lives import Life, make_lives
from runner.sandbox.demo_lives_play import Lives, LivesEnd
from runner.sandbox.demo_lives_report import find_life_differences, read_kept, read_moved
from runner.sandbox.demo_orders import Order, make_orders, payouts_of, refunds_in_order
from runner.sandbox.demo_programs import ProgramFailed
from runner.sandbox.demo_progress import Progress
from runner.sandbox.demo_refunds import Refunds, Standing
from runner.sandbox.demo_report import Report
from runner.sandbox.demo_runners import CALL_DEADLINE_SECONDS, LEASE_SECONDS, Runners
from runner.sandbox.demo_stripe import StripeRefused
from runner.sandbox.demo_webhook import Webhook
from runner.sandbox.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, remove_data_folder
from runner.sandbox.simulator import ControlRefused, SimulatorClient, SimulatorNotStarted, simulator_process
from runner.wording import counted

_WIDTH = 100
_RUNNERS = 2
_INDENT = 2

# A demo's data need not outlive a power cut.
_POSTGRES_SETTINGS = {"fsync": "off"}

_HURRY = """\
update marketplace.retry_policy
set base_delay = least(base_delay / 240, interval '2 s'),
    max_delay = least(max_delay / 240, interval '4 s');"""

_NO_LIMIT = "select * from marketplace.set_stripe_rate(p_per_second => null, p_reason => 'a demo is in a hurry');"

# What can keep a demo from happening, told in a line.
_OBSTACLES = (
    EmbeddedPostgresError,
    SimulatorNotStarted,
    ControlRefused,
    StripeRefused,
    ProgramFailed,
    MigrationRefused,
    psycopg.OperationalError,
    OSError,
)


class _Stopped(BaseException):
    """A signal that ends the demo."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_demo(orders: int) -> int:
    """Run the demo with that many orders (≥ 20) on our standard output; gives the exit status.

    0: every transfer came to its end, every event was acted on, and database, ledger and plan agree. 1: not so, or
    the demo could not be run, which standard error says. 128 and the signal's number: it was stopped. To be called in
    the main thread of a process that does nothing else: settings for real work are taken out of its environment.
    """
    console = Console(highlight=False)
    console.width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    try:
        with _ended_by_signals():
            return _Demo(console).run(make_orders(orders))
    except _Stopped as stop:
        console.print("\nStopped. Nothing is left running.")
        return 128 + stop.number
    except _OBSTACLES as error:
        click.echo(f"seller-transfers demo: {str(error).strip() or type(error).__name__}", err=True)
        return 1


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise _Stopped at the first signal that asks us to end, and let nothing disturb the tidying up after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it warns of the statement that is cut short
        raise _Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_LOGINS = """
create role demo_app login in role marketplace_app;
create role demo_runner login in role marketplace_runner;
alter role demo_app set statement_timeout = '15s';
alter role demo_app set lock_timeout = '5s';
alter role demo_app set idle_in_transaction_session_timeout = '30s';
alter role demo_runner set statement_timeout = '30s';
alter role demo_runner set lock_timeout = '5s';
alter role demo_runner set idle_in_transaction_session_timeout = '30s';
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the demo is played with."""

    connection: psycopg.Connection[Any]
    simulator: SimulatorClient
    runners: Runners
    webhook: Webhook
    app: App


class _Demo:
    """One run; the methods are its chapters."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def run(self, orders: list[Order]) -> int:
        """Play all chapters; gives the exit status."""
        lives = make_lives()
        self._introduce(orders, len(lives))
        leave_out_settings(os.environ)
        with ExitStack() as stack:
            stage = self._set_up(stack)
            self._pay_sellers(stage.app, orders)
            self._hurry(stage.connection)
            standing = self._refund(stage, orders)
            end = self._live(stage, lives)
            stage.runners.stop()
            return self._report(stage, orders, standing, lives, end)

    def _introduce(self, orders: list[Order], lives: int) -> None:
        self._console.print(
            "A marketplace pays its sellers at Stripe, and takes their shares back when buyers are refunded: each once,"
            f" whatever goes wrong on the way. {len(orders)} orders, and {lives} more from start to end; {_RUNNERS}"
            " runners, all on this machine, no real money."
        )
        named = [name for name in ("DATABASE_URL", "STRIPE_API_KEY") if os.environ.get(name)]
        if named:
            self._console.print(
                f"{' and '.join(named)}: set, but the demo will not touch that and uses parts of its own."
            )

    def _set_up(self, stack: ExitStack) -> _Stage:
        self._chapter("Setting up")
        data = demo_data_folder()
        data.parent.mkdir(parents=True, exist_ok=True)
        remove_data_folder(data)
        server = stack.enter_context(EmbeddedPostgres(data, settings=_POSTGRES_SETTINGS))
        self._say(f"PostgreSQL runs, with its data in {shown(data)}.")
        simulator = stack.enter_context(simulator_process())
        self._say(f"A simulator of Stripe runs at {simulator.base_url}.")
        migrated = migrate(server.dsn(DEMO_DATABASE))
        self._say(f"seller-transfers migrate: {counted(len(migrated.applied), 'migration')} applied, functions loaded.")
        connection = stack.enter_context(_connect(server, "demo"))
        connection.execute(_LOGINS)
        self._say("Logins: demo_app for the app, demo_runner for runners and webhook; neither may touch a table.")
        folder = sandbox_folder()
        webhook = stack.enter_context(Webhook(server.dsn(DEMO_DATABASE, "demo_runner"), folder))
        runners = stack.enter_context(Runners(server.dsn(DEMO_DATABASE, "demo_runner"), simulator.base_url, folder))
        self._start_runners(runners, webhook)
        app = App(stack.enter_context(_connect(server, "demo app", "demo_app")), simulator)
        return _Stage(connection, simulator, runners, webhook, app)

    def _start_runners(self, runners: Runners, webhook: Webhook) -> None:
        for _ in range(_RUNNERS):
            runner = runners.start()
            self._say(f"{runner.name} runs (pid {runner.pid}), its log in {shown(runner.log)}.")
        self._say(
            f"Their leases last {LEASE_SECONDS} s here and a call {CALL_DEADLINE_SECONDS:g} s at most"
            " (by default a minute and half a minute)."
        )
        self._say(
            f"The webhook runs (pid {webhook.program.pid}), for Stripe's events; its log is in"
            f" {shown(webhook.program.log)}."
        )

    def _pay_sellers(self, app: App, orders: list[Order]) -> None:
        self._chapter("Paying the sellers")
        count = app.pay_sellers(orders)
        currencies = ", ".join(sorted({order.currency for order in orders}))
        self._say(
            f"The demo plays the app: {count} transfers in {currencies}, made at the simulator by POST /v1/transfers"
            " and recorded by marketplace.record_completed_transfer(…)."
        )

    def _hurry(self, connection: psycopg.Connection[Any]) -> None:
        self._chapter("Hurrying up")
        self._say(
            "How long a transfer waits for its next try, seconds to hours, stands in marketplace.retry_policy. The demo"
            " plays the DBA, who may change that at any time, and makes it at least 240 times shorter:"
        )
        self._console.print()
        self._say(_HURRY, indent=2 * _INDENT)
        connection.execute(_HURRY.encode())
        self._console.print()
        self._say(
            "And all runners together make 20 calls a second, for Stripe takes no more than 25; the simulator takes any"
            " number:"
        )
        self._console.print()
        self._say(_NO_LIMIT, indent=2 * _INDENT)
        connection.execute(_NO_LIMIT.encode())

    def _refund(self, stage: _Stage, orders: list[Order]) -> Standing:
        refunds = refunds_in_order(orders)
        self._chapter("Refunds on a bad day")
        self._say(
            f"{len(refunds)} of the {len(orders)} orders are refunded: the app calls marketplace.request_reversal(…),"
            " and the runners do what is due. Stripe has a bad day."
        )
        self._console.print()
        with self._progress() as progress:
            return Refunds(stage.app, stage.connection, stage.simulator, stage.runners, progress).play(refunds)

    def _live(self, stage: _Stage, lives: list[Life]) -> LivesEnd:
        self._chapter("Whole lives")
        self._say(
            f"{len(lives)} orders from the buyer's payment to the end. The app says what the sellers are to get, by"
            " marketplace.create_transfer(…), and leaves the rest to Stripe's events, by marketplace.set_refunds_by(…)."
            " One event in five comes twice, and they change places."
        )
        self._console.print()
        with self._progress() as progress:
            return Lives(stage.app, stage.connection, stage.simulator, stage.runners, stage.webhook, progress).play(
                lives
            )

    def _report(self, stage: _Stage, orders: list[Order], standing: Standing, lives: list[Life], end: LivesEnd) -> int:
        report = Report(self._console, stage.connection)
        rows, entries = report.read_rows(), stage.simulator.ledger()
        moved, kept = read_moved(entries, end.charges), read_kept(rows)
        differences = find_differences(rows, entries) + find_life_differences(lives, moved, kept)
        self._chapter("Result")
        report.show_standings()
        report.show_stories({payout.key: payout.story for payout in payouts_of(orders)}, stage.simulator)
        report.show_lives(lives, moved, kept)
        report.show_books(rows, entries)
        if standing.open or end.open:
            report.show_open()
        report.show_kept_events(end.kept)
        report.show_differences(differences, rows)
        self._chapter("Looking around")
        report.show_way_on(psql_command())
        return 1 if standing.open or end.open or end.kept or differences else 0

    def _progress(self) -> Progress:
        return Progress(self._console, live=sys.stdout.isatty() and not self._console.is_dumb_terminal)

    def _chapter(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/]")

    def _say(self, text: str, *, indent: int = _INDENT) -> None:
        self._console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def _connect(server: EmbeddedPostgres, name: str, user: str | None = None) -> psycopg.Connection[Any]:
    return psycopg.connect(server.dsn(DEMO_DATABASE, user), autocommit=True, application_name=name)
