"""One reversal as the database's row holds it, and what each event makes of it.

Written from the contract and not from the SQL: tests/test_state_machine.py compares the two after every step.
Whoever calls says when things happen; nothing here reads a clock.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from tests.model.dated.policy import KEY_MAX_AGE, QUIET, Policy, Window

Action = Literal["reverse", "look_up_reversals"]
Verdict = Literal[
    "succeeded",
    "accepted",
    "insufficient_balance",
    "transient",
    "already_reversed",
    "not_found",
    "configuration",
    "throttled",
    "conflict",
    "mismatch",
    "unknown",
    "absent",
    "unclear",
    "moved_twice",
    "not_sent",
]


class Lease(NamedTuple):
    """The right to make one call."""

    token: str
    action: Action
    taken_at: datetime
    ends_at: datetime

    def is_live(self, now: datetime) -> bool:
        return now < self.ends_at


@dataclass(slots=True)
class Row:
    """A reversal that was asked for."""

    id: int
    identity: str
    transfer: str
    account: str
    amount: int
    whole: bool  # all of the Stripe transfer: Stripe itself refuses a second one
    minted_at: datetime
    due: Window | None
    status: str = "reversal_pending"
    parked: bool = False
    generation: int = 1
    written: bool = False  # what is sent under this generation's key stands
    sent_at: datetime | None = None  # the latest moment the last POST can have left
    replayed: bool = False
    unknown: bool = False
    absent_at: datetime | None = None
    reversal: str | None = None
    retries: int = 0
    streak: int = 0
    streak_verdict: str | None = None
    streak_since: datetime | None = None
    waiting_since: datetime | None = None
    troubled: bool = False  # refused for the account's sake, and nothing else since
    troubled_at: datetime | None = None  # for the first time
    lease: Lease | None = None
    doubted_at: datetime | None = None  # when this database took over
    known: bool = False  # Stripe has answered for it

    def quiet_from(self) -> datetime | None:
        """From when on nothing that was sent can still arrive; None if nothing was."""
        sent = [moment for moment in (self.sent_at, self.doubted_at) if moment]
        return max(sent) + QUIET if sent else None

    @property
    def is_open(self) -> bool:
        return self.status == "reversal_pending"

    def is_due(self, now: datetime) -> bool:
        """Nothing is in the way of a claim but, perhaps, a sibling."""
        if not self.is_open or self.parked or (self.lease and self.lease.is_live(now)):
            return False
        return self.due is not None and self.due.latest <= now

    def has_old_key(self, now: datetime) -> bool:
        return now - self.minted_at >= KEY_MAX_AGE

    def next_action(self, now: datetime) -> Action:
        if self.reversal or self.replayed or self.has_old_key(now):
            return "look_up_reversals"
        # A part may be taken twice and Stripe would not mind; after the first generation there was one before.
        doubtful = self.unknown or self.generation > 1 or not self.whole or self.doubted_at is not None
        looked = self.absent_at is not None and (self.doubted_at is None or self.absent_at > self.doubted_at)
        return "look_up_reversals" if doubtful and not looked else "reverse"

    # Leases

    def take(self, now: datetime, lasts: timedelta, token: str) -> Action:
        action = self.next_action(now)
        if action == "reverse":
            self.written = True
        self.lease = Lease(token, action, now, now + lasts)
        return action

    def lose(self, now: datetime, policy: Policy) -> None:
        """Nobody reported under the lease, and now somebody else wants the row."""
        assert self.lease is not None
        assert self.due is not None
        if self.lease.action == "reverse":
            self._doubt()
            self.sent_at = self.lease.ends_at
        self._count("unknown", now)
        after = policy.delays["unknown"].after(self.lease.taken_at, self.streak)
        self.due = Window(max(self.due.earliest, after.earliest), max(self.due.latest, after.latest))
        self.lease = None

    # Reports

    def posted(self, verdict: Verdict, now: datetime, policy: Policy, *, reversal: str | None, says: str) -> None:
        """The worker says what came of its POST; `says` is the kind of answer."""
        self.lease = None
        if verdict == "not_sent":
            return
        self.sent_at = now
        if verdict == "configuration":
            self._trouble(now)
            return
        self.troubled = False
        self._count(verdict, now)
        self._wait(verdict, now, policy)
        match verdict:
            case "succeeded":
                self._end("reversed", reversal)
            case "accepted":
                self._hold(reversal, now)
            case "insufficient_balance":
                self._wait_for_balance(now, policy)
            case "transient" | "already_reversed":
                self._refused(verdict, now, policy)
            case "not_found":
                self._end("permanently_failed", None)
            case "throttled":
                if says == "key in use":
                    self._doubt()
            case "conflict":
                self.parked = True
            case "mismatch":
                self._doubt()
                self.parked = True
            case _:
                assert verdict == "unknown", verdict
                self._doubt()
                self.replayed = self.replayed or says == "replayed server error"

    def looked_up(self, verdict: Verdict, now: datetime, policy: Policy, *, reversal: str | None) -> None:
        """The worker says what it saw at Stripe."""
        assert self.lease is not None
        taken_at = self.lease.taken_at
        self.lease = None
        match verdict:
            case "not_sent":
                pass
            case "succeeded":
                self._end("reversed", reversal)
            case "already_reversed":
                self._end("reversed", None)
            case "not_found":
                self._end("permanently_failed", None)
            case "accepted" | "insufficient_balance" | "throttled" | "unclear":
                counted = "unknown" if verdict == "unclear" else verdict
                self._count(counted, now)
                self._wait(counted, now, policy)
                self.troubled = self.troubled and verdict == "throttled"
                if verdict == "accepted":
                    self._hold(reversal, now)
                elif verdict == "insufficient_balance":
                    self._wait_for_balance(now, policy)
            case "absent":
                self._absent(taken_at, now)
            case "configuration":
                self._trouble(now)
            case _:
                assert verdict in ("moved_twice", "mismatch"), verdict
                self.parked = True

    def split(self, slice_id: int, elsewhere: int, now: datetime) -> "Row":
        """Others took some of it: that is a row of its own, reversed, and this one goes on with the rest."""
        assert self.lease is not None
        if self.written:
            self._mint(now)
        self.unknown = False
        self.absent_at = self.lease.taken_at
        self.due = Window.at(now)
        self.lease = None
        self.amount -= elsewhere
        self.whole = False
        identity, _, part = self.identity.rpartition(":")
        return replace(
            self,
            id=slice_id,
            identity=f"{identity}:{int(part) + 1}",
            amount=elsewhere,
            status="reversed",
            due=None,
            generation=1,
            written=False,
            reversal=None,
        )

    def proven(self, now: datetime) -> None:
        """Somebody without a lease says that the money moved: nobody believes it, and everybody looks."""
        assert self.due is not None
        self._doubt()
        self.sent_at = now
        self.due = Window(min(self.due.earliest, now), min(self.due.latest, now))

    # What can become of it

    def _count(self, verdict: str, now: datetime) -> None:
        if self.streak_verdict == verdict:
            self.streak += 1
        else:
            self.streak, self.streak_verdict, self.streak_since = 1, verdict, now

    def _wait(self, verdict: str, now: datetime, policy: Policy) -> None:
        if verdict in policy.delays:
            self.due = policy.delays[verdict].after(now, self.streak)

    def _trouble(self, now: datetime) -> None:
        self.troubled = True
        self.troubled_at = self.troubled_at or now

    def _doubt(self) -> None:
        self.unknown = True
        self.absent_at = None

    def _hold(self, reversal: str | None, now: datetime) -> None:
        self.reversal = reversal
        self.unknown = False
        self.waiting_since = self.waiting_since or now

    def _wait_for_balance(self, now: datetime, policy: Policy) -> None:
        self.reversal = None
        self.waiting_since = self.waiting_since or now
        if now - self.waiting_since >= policy.patience and self._may_end(now):
            self._end("permanently_failed", None)
        else:
            self._mint(now)

    def _refused(self, verdict: Verdict, now: datetime, policy: Policy) -> None:
        self.retries += 1
        if self.retries > policy.retries and self._may_end(now):
            self._end("permanently_failed", None)
            return
        self._mint(now)
        at_once = verdict == "already_reversed" and self.streak == 1
        self.due = Window.at(now) if at_once else policy.delays["transient"].after(now, self.streak)

    def _absent(self, taken_at: datetime, now: datetime) -> None:
        """Nothing of ours was at Stripe when the look-up was claimed, nor before that."""
        quiet_from = self.quiet_from()
        is_quiet = quiet_from is None or taken_at >= quiet_from
        if is_quiet:
            self.unknown = False
        if self.has_old_key(now) or self.replayed:
            if not is_quiet:
                assert quiet_from is not None
                self.due = Window.at(quiet_from)
            elif self.written:
                self._mint(now)
            else:
                self.minted_at = now
        self.absent_at = taken_at

    def _may_end(self, now: datetime) -> bool:
        """Nothing that a lost history sent can arrive any more."""
        return self.doubted_at is None or now >= self.doubted_at + QUIET

    def _mint(self, now: datetime) -> None:
        self.generation += 1
        self.written = False
        self.minted_at = now
        self.replayed = False
        self.unknown = False
        self.absent_at = None

    def _end(self, status: str, reversal: str | None) -> None:
        self.status = status
        self.reversal = reversal or (self.reversal if status == "permanently_failed" else None)
        self.due = None
        self.parked = False
        self.unknown = False
