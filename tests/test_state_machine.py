"""The SQL functions against a model written by hand, step by step, in whatever order things happen.

One connection drives the real functions, a small Stripe answers the claimed calls, and time passes by moving the rows'
past. After each step the rows must be what tests/model/dated says, every claim and report one that tests/model/rules.py
allows, and Stripe must hold at most one live reversal of each that was asked for.

`python -m pytest tests/test_state_machine.py --hypothesis-profile=long` searches for ten minutes or so, and makes what
it finds as short as it can, which takes up to five more; with `-k '[7]'` it does so for the one that failed.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, get_args
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.dated.answers import LookFate, PostFate
from tests.model.dated.database import Database as Model
from tests.model.dated.policy import KEY_MAX_AGE, QUIET, Delays
from tests.model.dated.row import Row
from tests.support import disturbances
from tests.support.databases import Database, value
from tests.support.disturbances import Backup
from tests.support.side_by_side import TOTAL, Held, SideBySide

pytest_plugins = ("tests.support.rolled_back",)

IS_LONG = settings.get_current_profile_name() == "long"
IDLE = 2
DELAYED = ("unknown", "transient", "throttled", "insufficient_balance", "accepted")
ROWS = 4  # of five that Stripe does not know the SQL says that it must be the key

SETTINGS = settings(
    max_examples=10,
    stateful_step_count=40,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink] if IS_LONG else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)

# What is common comes more than once.
POST_FATES = st.sampled_from(("done", *["refused"] * 4, "request late", "answer lost", "401", *get_args(PostFate)))
LOOK_FATES = st.sampled_from((*["listed"] * 4 * len(get_args(LookFate)), "401", *get_args(LookFate)))
LEASES = st.sampled_from((timedelta(seconds=60), timedelta(minutes=10)))
AMOUNTS = st.sampled_from((None, 400, 150))  # of TOTAL; None is all there is
WHICH = st.integers(0, 5)
WAITS = st.sampled_from([timedelta(seconds=seconds) for seconds in (7, 61, 700, 2400, 7 * 3600, 21 * 3600, 46 * 86400)])
TURNS = st.sampled_from(("due", "lease ends", "quiet", "key is old"))
AROUND = st.sampled_from([timedelta(seconds=seconds) for seconds in (-30, -5, 1)])
# What a person changes: the pause, what a plain 400 means, how often and how soon is tried again.
CHANGES = st.sampled_from(
    (
        ("retries", 0),
        ("retries", 1),
        ("rule", "insufficient_balance"),
        ("rule", "already_reversed"),
        *((verdict, Delays(90, 360, 0.5)) for verdict in DELAYED),
        *((verdict, Delays(1, 4, 0)) for verdict in DELAYED),
        ("resume", None),
        ("pause", None),
    )
)


class Reversals(RuleBasedStateMachine):
    """What can happen to a few reversals. A rule that finds nothing to do does nothing."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(db.transaction(force_rollback=True))
        self.db = db
        self.both = SideBySide(db)
        self.stripe = self.both.stripe
        self.requests = 0
        self.idle = 0  # how long nothing was done

    @property
    def model(self) -> Model:
        return self.both.model

    @property
    def open_rows(self) -> list[Row]:
        return [row for row in self.model.rows.values() if row.is_open]

    def _requested(self) -> str:
        self.requests += 1
        return f"re_{self.requests}"

    # The app

    @initialize(amount=AMOUNTS)
    def refund_first(self, amount: int | None) -> None:
        self._refund(known=True, amount=amount)

    @precondition(lambda self: self.idle < IDLE and len(self.model.rows) < ROWS)
    @rule(known=st.sampled_from((True, True, True, False)), amount=AMOUNTS)
    def refund(self, known: bool, amount: int | None) -> None:
        self.idle += 1
        self._refund(known=known, amount=amount)

    @precondition(lambda self: self.idle < IDLE and len(self.model.rows) < ROWS)
    @rule(which=WHICH, amount=AMOUNTS)
    def refund_more(self, which: int, amount: int | None) -> None:
        self.idle += 1
        n = which % self.both.transfers + 1
        asked = sum(row.amount for row in self.model.rows.values() if row.transfer == f"tr_{n}")
        if asked + (amount or 1) <= TOTAL:
            self.both.ask_back(n, self._requested(), amount)

    def _refund(self, *, known: bool, amount: int | None) -> None:
        self.both.ask_back(self.both.sell(known=known), self._requested(), amount)

    # Workers

    @precondition(lambda self: self.open_rows)
    @rule(calls=st.lists(st.tuples(POST_FATES, LOOK_FATES), min_size=1, max_size=6), limit=st.sampled_from((1, 3)))
    def work(self, calls: list[tuple[PostFate, LookFate]], limit: int) -> None:
        """A worker sleeps for as long as it is told to, claims, calls and reports; that several times."""
        self.idle = 0
        if self.model.control.paused_by == "person":
            disturbances.resume(self.both)
        for post, look in calls:
            due_in = value(self.db, "select marketplace.next_due_in()")
            if due_in is None:
                assert all(row.parked for row in self.open_rows), "nothing to wait for"
                return
            if due_in:
                self.both.wait(due_in + timedelta(milliseconds=1))
            while self.model.is_silent(self.both.now(), timedelta(seconds=60)):
                self.both.wait(timedelta(seconds=61))
            lost = any(row.lease for row in self.open_rows)
            claimed = self.both.claim(limit, timedelta(seconds=60))
            assert claimed or lost, "woken for nothing"
            self._call(claimed, post, look)
            self.both.tell(claimed)

    @precondition(lambda self: self.idle < IDLE and self.open_rows)
    @rule(limit=st.integers(1, 3), lease=LEASES)
    def claim(self, limit: int, lease: timedelta) -> None:
        self._claim(limit, lease)

    @precondition(lambda self: self.idle < IDLE and self.open_rows)
    @rule(limit=st.integers(1, 3), lease=LEASES, post=POST_FATES, look=LOOK_FATES)
    def claim_and_call(self, limit: int, lease: timedelta, post: PostFate, look: LookFate) -> None:
        self._call(self._claim(limit, lease), post, look)

    def _claim(self, limit: int, lease: timedelta) -> Sequence[Held]:
        claimed = self.both.claim(limit, lease)
        self.idle = 0 if claimed else self.idle + 1
        if self.model.control.paused_by == "person":
            assert not claimed
            disturbances.resume(self.both)
        return claimed

    @precondition(lambda self: self._held(told=0, answered=False))
    @rule(which=WHICH, post=POST_FATES, look=LOOK_FATES)
    def call(self, which: int, post: PostFate, look: LookFate) -> None:
        held = self._held(told=0, answered=False)
        self._call([held[which % len(held)]], post, look)

    def _call(self, claimed: Iterable[Held], post: PostFate, look: LookFate) -> None:
        for held in claimed:
            self.both.ask_stripe(held, post, look)

    @precondition(lambda self: self._held(told=0))
    @rule(which=WHICH, several=st.booleans())
    def report(self, which: int, several: bool) -> None:
        """Whatever the time."""
        self.idle = 0
        held = self._held(told=0)
        one_each = {each.call.row: each for each in held}
        self.both.tell(list(one_each.values()) if several else [held[which % len(held)]])

    @precondition(lambda self: self._held(told=1))
    @rule(which=WHICH, token=st.sampled_from(("again", "other facts")))
    def report_again(self, which: int, token: str) -> None:
        held = self._held(told=1)
        if token == "again":
            self.both.tell([held[which % len(held)]])
        else:
            self.both.tell_otherwise(held[which % len(held)])

    @precondition(lambda self: self.idle < IDLE and (self._held(told=0) or self._held(told=1)))
    @rule(which=WHICH)
    def report_under_a_token_nobody_gave_out(self, which: int) -> None:
        self.idle += 1
        held = self._held(told=0) or self._held(told=1)
        self.both.tell_otherwise(held[which % len(held)], token=str(uuid4()))

    def _held(self, *, told: int, answered: bool = True) -> Sequence[Held]:
        return [held for held in self.both.held if held.times_told == told and (held.answer is not None) == answered]

    # Time

    @precondition(lambda self: self.idle < IDLE or not self.open_rows)
    @rule(by=WAITS)
    def wait(self, by: timedelta) -> None:
        self.idle += 1
        if self.open_rows:
            self.both.wait(by)

    @precondition(lambda self: self.idle < IDLE and self.open_rows)
    @rule(which=WHICH, turn=TURNS, around=AROUND)
    def wait_until(self, which: int, turn: str, around: timedelta) -> None:
        """Shortly before and after, things go wrong."""
        self.idle += 1
        self._wait_until(self.open_rows[which % len(self.open_rows)], turn, around)

    @precondition(lambda self: self.open_rows)
    @rule(which=WHICH, turn=TURNS, post=POST_FATES, look=LOOK_FATES)
    def turn_while_the_answer_is_on_its_way(self, which: int, turn: str, post: PostFate, look: LookFate) -> None:
        row = self.open_rows[which % len(self.open_rows)]
        self._wait_until(row, turn, timedelta(seconds=-30))
        claimed = self._claim(3, timedelta(seconds=90))
        self._call(claimed, post, look)
        self._wait_until(row, turn, timedelta(seconds=1))
        self.both.tell(claimed)

    def _wait_until(self, row: Row, turn: str, around: timedelta) -> None:
        moment = {
            "due": row.due and row.due.latest,
            "lease ends": row.lease and row.lease.ends_at,
            "quiet": row.sent_at and row.sent_at + QUIET,
            "key is old": row.minted_at + KEY_MAX_AGE,
        }[turn]
        if moment and (by := moment + around - self.both.now()) > timedelta():
            self.both.wait(by)

    # Stripe and others

    @precondition(lambda self: self.stripe.under_way)
    @rule(which=WHICH)
    def arrive(self, which: int) -> None:
        self.stripe.arrive(which, self.both.now())

    @precondition(lambda self: any(reversal.status == "pending" for reversal in self.stripe.reversals))
    @rule(which=WHICH, status=st.sampled_from(("succeeded", "failed", "canceled")))
    def settle(self, which: int, status: str) -> None:
        self.stripe.settle(which, status)

    @precondition(lambda self: self.idle < IDLE)
    @rule(which=WHICH, status=st.sampled_from(("succeeded", "pending")), of=st.sampled_from((1, 2, 3)))
    def take_elsewhere(self, which: int, status: str, of: int) -> None:
        """Somebody takes back by hand what is left of a transfer, or some of it."""
        self.idle += 1
        transfers = list(self.stripe.transfers)
        transfer = transfers[which % len(transfers)]
        self.stripe.take_elsewhere(transfer, self.stripe.left(transfer) // of, status)

    # Operators

    @precondition(lambda self: self.idle < IDLE and self.open_rows)
    @rule(change=CHANGES)
    def operate(self, change: tuple[str, Any]) -> None:
        self.idle += 1
        what, value = change
        match what:
            case "pause":
                disturbances.pause(self.both)
            case "resume":
                disturbances.resume(self.both)
            case "retries":
                disturbances.set_retries(self.both, value)
            case "rule":
                disturbances.set_rule(self.both, value)
            case _:
                disturbances.set_delays(self.both, what, value)

    # What must be so

    @invariant()
    def nothing_is_wrong(self) -> None:
        for row in self.model.rows.values():
            live = self.stripe.live(row.identity)
            assert len(live) <= 1, f"money moved twice: {live}"
            assert sum(one.amount for one in live) in (0, row.amount), f"more than was asked: {live}"
            if row.status == "reversed":
                assert [one.id for one in live if one.status == "succeeded"] == [row.reversal] * bool(row.reversal)
            elif row.status == "permanently_failed":
                assert not live, f"given up, yet reversed: {live}"
        now = self.both.now()
        leased = [row.transfer for row in self.model.rows.values() if row.lease and row.lease.is_live(now)]
        assert len(leased) == len(set(leased)), "two live leases on one transfer"

    def teardown(self) -> None:
        try:
            self.both.check_records()
        finally:
            self.stack.close()


class ReversalsAndFailover(Reversals):
    """And a standby that takes over, some hours behind."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.backup: Backup | None = None

    @precondition(lambda self: self.backup is None)
    @rule()
    def back_up(self) -> None:
        self.backup = disturbances.back_up(self.both)

    @precondition(lambda self: self.backup and not self.model.control.took_over_at)
    @rule()
    def fail_over(self) -> None:
        assert self.backup is not None
        is_hours_behind = self.both.moved - self.backup.moved < KEY_MAX_AGE - QUIET
        # A reversal that the standby knows as held may have failed and been made anew: parked, as things are.
        is_held = any(row.reversal for row in self.backup.model.rows.values() if row.is_open)
        if is_hours_behind and not is_held:
            disturbances.fail_over(self.both, self.backup)


# A search soon turns to variations of what it has seen; ten examples of each seed are all new.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(400 if IS_LONG else 4))
def test_the_sql_does_what_the_model_does_whatever_happens(rolled_back_db: Database, number: int) -> None:
    run_state_machine_as_test(seed(number)(lambda: Reversals(rolled_back_db)), settings=SETTINGS)  # type: ignore[arg-type]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(200 if IS_LONG else 2))
def test_nothing_is_taken_twice_when_a_standby_takes_over(rolled_back_db: Database, number: int) -> None:
    machine = seed(number)(lambda: ReversalsAndFailover(rolled_back_db))
    run_state_machine_as_test(machine, settings=SETTINGS)  # type: ignore[arg-type]
