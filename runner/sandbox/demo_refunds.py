"""The middle of the demo: refunds come in, runners work them off, things go wrong, and somebody watches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from runner.sandbox.demo_app import App, poor_sellers
from runner.sandbox.demo_orders import Order, Payout, Story
from runner.sandbox.demo_progress import Progress
from runner.sandbox.demo_runners import LEASE_SECONDS, Runners
from runner.sandbox.demo_stripe import HELD, earn_again
from runner.sandbox.simulator import SimulatorClient

_LAST_REFUND_AFTER_SECONDS = 8.0
_REFUNDS_PER_SECOND = 25.0  # at least; more if there are many
_TICK_SECONDS = 0.05
_KILL_ANYWAY_SECONDS = 1.0  # after the first call is held, whatever else is in flight
_WAIT_SECONDS = 50.0  # after the last refund

_STANDING = """
select
  count(*) as asked,
  count(*) filter (where status = 'reversed') as reversed,
  count(*) filter (where status = 'permanently_failed') as failed,
  count(*) filter (where status = 'reversal_pending' and not call_unknown) as waiting,
  count(*) filter (where status = 'reversal_pending' and call_unknown) as unknown,
  count(*) filter (where status = 'reversal_pending' and streak_verdict = 'insufficient_balance') as balance_too_low
from marketplace.seller_transfers
where reversal_request_id is not null
"""

# Whose calls are held, how many, and how many others it has in flight.
_HOLDERS = """
select
  t.leased_by as name,
  count(*) filter (where t.stripe_transfer_id = any (%(held)s)) as held,
  count(*) filter (where t.stripe_transfer_id <> all (%(held)s)) as others
from marketplace.seller_transfers as t
where t.lease_expires_at > clock_timestamp()
group by t.leased_by
order by held desc, name
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How many of the transfers whose money was asked back stand where.

    `waiting` for a call or its answer; `unknown`: whether Stripe moved the money.
    """

    asked: int
    reversed: int
    failed: int
    waiting: int
    unknown: int
    balance_too_low: int

    @property
    def open(self) -> int:
        """Those not at their end yet."""
        return self.waiting + self.unknown


@dataclass(frozen=True, slots=True)
class _Holder:
    name: str
    held: int
    others: int


class Refunds:
    """Plays the refunds of the demo to their end. `watcher` is a connection in autocommit."""

    def __init__(
        self,
        app: App,
        watcher: psycopg.Connection[Any],
        simulator: SimulatorClient,
        runners: Runners,
        progress: Progress,
    ) -> None:
        self._app = app
        self._watcher = watcher
        self._simulator = simulator
        self._runners = runners
        self._progress = progress
        self._begun = 0.0
        self._to_hold = 0  # calls, until a runner is killed over them
        self._first_held_at: float | None = None
        self._to_fund: list[Payout] = []

    def play(self, refunds: Sequence[Order]) -> Standing:
        """Request these refunds one after the other and wait, but not forever, until no row is open."""
        self._begun = time.monotonic()
        held = [position for position, order in enumerate(refunds, start=1) if order.story is Story.RUNNER_KILLED]
        self._to_hold = len(held)
        self._to_fund = poor_sellers(list(refunds))
        last_at = min(_LAST_REFUND_AFTER_SECONDS, len(refunds) / _REFUNDS_PER_SECOND)
        requested = 0
        while True:
            due = 1 + int(len(refunds) * self._elapsed() / last_at)
            due = min(due, max(held) if self._to_hold else len(refunds))
            for order in refunds[requested:due]:
                self._app.refund(order)
            requested = due
            self._runners.check()
            standing = self._standing()
            self._meddle(standing)
            self._progress.show(self._elapsed(), requested, len(refunds), standing)
            ended = requested == len(refunds) and standing.open == 0
            if ended or self._elapsed() > last_at + _WAIT_SECONDS:
                return standing
            time.sleep(_TICK_SECONDS)

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _standing(self) -> Standing:
        with self._watcher.cursor(row_factory=class_row(Standing)) as cursor:
            standing = cursor.execute(_STANDING).fetchone()
        assert standing is not None  # noqa: S101 - an aggregate gives a row
        return standing

    def _meddle(self, standing: Standing) -> None:
        """Do what a demo needs to have happen, as soon as it can."""
        if self._to_hold:
            self._kill_when_calls_are_held()
        if self._to_fund and standing.balance_too_low >= len(self._to_fund):
            earn_again(self._simulator, self._to_fund)
            self._tell(f"the sellers whose balance was too low ({len(self._to_fund)}) have money again")
            self._to_fund = []

    def _kill_when_calls_are_held(self) -> None:
        held = self._simulator.held(HELD)
        if not held:
            if self._first_held_at is not None:  # they were let go: a machine too slow for this, the rest goes on
                self._to_hold = 0
            return
        if self._first_held_at is None:
            self._first_held_at = self._elapsed()
        transfers = [each["path"].split("/")[3] for each in held]
        with self._watcher.cursor(row_factory=class_row(_Holder)) as cursor:
            holder = cursor.execute(_HOLDERS, {"held": transfers}).fetchone()
        if holder is None or holder.held == 0:  # the leases have lapsed
            return
        quiet = len(held) == self._to_hold and holder.others == 0
        if not quiet and self._elapsed() < self._first_held_at + _KILL_ANYWAY_SECONDS:
            return
        killed = self._runners.kill(holder.name)
        self._simulator.release(HELD)
        self._to_hold = 0
        answers = "an answer" if holder.held == 1 else f"{holder.held} answers"
        self._tell(
            f"{killed.name} (pid {killed.pid}) is killed with SIGKILL while it waits for {answers}: Stripe has moved"
            f" the money, nobody has written it down; its leases last {LEASE_SECONDS} s"
        )
        started = self._runners.start()
        self._tell(f"{started.name} (pid {started.pid}) is started in its place")

    def _tell(self, text: str) -> None:
        self._progress.tell(self._elapsed(), text)
