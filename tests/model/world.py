"""What can happen: every step that a state allows, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from tests.model.rules import LAPSED, LEASE, QUIET, TRAVEL, Answer, Claim, Database, Row
from tests.model.state import (
    Backup,
    Request,
    State,
    Worker,
    order,
    tidy,
    violation,
    with_request,
    with_worker,
    without_worker,
)
from tests.model.stripe import execute, look, reversed_by

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the rules rest on: without any one of these they do not hold."""

    requests_die_in_time: bool = True  # within TRAVEL of the worker's last check of its lease
    errors_act_in_time: bool = True  # what a stored server error does, it does within TRAVEL of that check, too
    refusals_are_stored: bool = True  # or would be given to every copy of the request
    keys_last_a_day: bool = True
    old_copies_come_back_idle: bool = True  # nothing is in flight when a copy a day old is restored


@dataclass(frozen=True, slots=True)
class Scope:
    """How far one search goes: so many generations, and what a failover may lose.

    "commits": a standby some hours behind takes over. "a day": an old copy of the disk comes back, unnoticed.
    """

    generations: int
    lost: Literal["nothing", "commits", "a day"] = "nothing"
    assumptions: Assumptions = Assumptions()
    keys_age: bool = True  # beyond ticks there are hours and days
    few_answers: bool = False  # done, refused or silence, and no person's hand: to build a larger world on


class Step(NamedTuple):
    """One thing that can happen. An end must be in reach without any that is a `fault`, or takes many hours."""

    words: str
    fault: bool
    after: State


@dataclass(frozen=True, slots=True)
class World:
    """Everything that can happen around a database."""

    database: Database
    scope: Scope

    def first(self) -> State:
        """Nobody has asked for anything."""
        return State(None, 0, (), (), (), (), None, self.scope.lost != "nothing", QUIET)

    def is_end(self, state: State) -> bool:
        """The reversal ended, or went beyond the last generation."""
        row = state.row
        return row is not None and (row.status != "reversal_pending" or row.generation > self.scope.generations)

    def wrong(self, before: State, after: State, *, new: bool) -> str | None:
        """What is wrong with a new state, or with a generation that was minted."""
        if new or (before.row and after.row and after.row.generation > before.row.generation):
            return violation(before, after)
        return None

    def steps(self, state: State) -> Iterator[Step]:
        """Every step the state allows; none beyond the last generation."""
        if state.row and state.row.generation > self.scope.generations:
            return
        for step in self._commits(state):
            yield self._tidy(step)
            if state.may_fail_over and not state.backup:
                kept = self._kept(state.row)
                if kept != self._kept(step.after.row):
                    missed = step.after._replace(backup=Backup(kept, day_old=False))
                    yield self._tidy(Step(f"{step.words}; the backup misses this and all after it", True, missed))
        for worker in state.workers:
            if worker.verdict is None:
                for step in self._calls(without_worker(state, worker), worker):
                    yield self._tidy(step)
        for step in self._late_arrivals(state):
            yield self._tidy(step)
        for step in self._time(state):
            yield self._tidy(step)
        yield from self._failover(state)

    def _tidy(self, step: Step) -> Step:
        rules = self.database.rules
        after = tidy(
            step.after,
            stale_workers_matter=not (rules.outcome_needs_the_rows_token and rules.lease_checked_before_send),
            failed_reversals_matter=not rules.failed_reversal_mints_once,
        )
        return step if after is step.after else Step(step.words, step.fault, after)

    def _kept(self, row: Row | None) -> Row | None:
        """What a failover will make of the row. A backup holds that from the start: it makes fewer states."""
        if row is None:
            return None
        if self.scope.lost == "commits":
            return self.database.promoted(row)
        # After a day no lease and no young key is left, so the next look-up decides, and it is dated late enough.
        return row._replace(unknown=True, looked=False, last_post=QUIET, lease=None)

    # What changes the row

    def _commits(self, state: State) -> Iterator[Step]:
        row = state.row
        if row is None:
            row = self.database.born(state.births, state.since_failover)
            yield Step("the app requests the reversal", False, state._replace(row=row, births=1))
            return
        if not self.scope.few_answers and (given_up := self.database.give_up(row)):
            yield Step("a person gives the row up", True, state._replace(row=given_up))
        claimed = self.database.claim(row, state.since_failover) if len(state.workers) < WORKERS else None
        if claimed:
            leased, claim = claimed
            others = tuple(sorted((worker._replace(owns=False) for worker in state.workers), key=order))
            worker = Worker(claim, True, 0, None, None)
            after = with_worker(state._replace(row=leased, workers=others), worker)
            yield Step(f"a worker claims the row for {_call(claim)}", False, after)
        for worker in state.workers:
            if worker.verdict:
                reported = self.database.report(row, worker.verdict, state.since_failover, owns=worker.owns)
                stale = "" if worker.owns else ", under a token that is not the row's"
                words = f"the worker of {_call(worker.claim)} reports: {worker.verdict}{stale}"
                yield Step(words, False, without_worker(state, worker)._replace(row=reported))

    # What a worker does between claim and report; `others` is the world without it. A worker that is killed is one
    # that takes no further step: nobody else can tell, so it needs no step of its own.

    def _calls(self, others: State, worker: Worker) -> Iterator[Step]:
        claim = worker.claim
        if worker.request_age is not None:
            yield from self._answers(others, worker, worker.request_age)
        elif worker.lease_age > LEASE and self.database.rules.lease_checked_before_send:
            words = f"the worker does not send {_call(claim)}: too late"
            yield Step(words, False, self._answered(others, worker, "not sent"))
        elif claim.action == "reverse":
            late = ", though its lease ran out" if worker.lease_age > LEASE else ""
            yield Step(
                f"the worker sends {_call(claim)}{late}", False, with_worker(others, worker._replace(request_age=0))
            )
        else:
            seen = self.look(others, claim)
            yield Step(f"the look-up: {seen}", False, self._answered(others, worker, seen))
            bad: tuple[Answer, ...] = ("some pages only", "look-up refused")
            for answer in bad:
                # An answer that says nothing new does no more than a worker that stops here.
                if self.database.verdict(claim.action, answer) != "nothing new":
                    yield Step(f"the look-up: {answer}", True, self._answered(others, worker, answer))

    def _answers(self, others: State, worker: Worker, age: int) -> Iterator[Step]:
        claim, orphaned, what = worker.claim, self._orphaned(others, worker), _call(worker.claim)
        if age <= TRAVEL:
            for words, answer, after in self._executed(others, claim, age):
                fault = answer != "succeeded" and after is not others  # the same answer again is none
                yield Step(f"{what} reaches Stripe: {words}", fault, self._answered(after, worker, answer))
            if not self.scope.assumptions.refusals_are_stored:
                yield Step(f"{what} is refused and not stored", True, self._answered(others, worker, "refused"))
            bad: tuple[tuple[str, Answer, State], ...] = (
                ("a proxy answers {} with a 200 of its own", "strange success", orphaned),
                ("a proxy sends {} twice, and the second is answered 409", "key in use", orphaned),
                ("{} is answered 429 or 401", "throttled", others),
            )
            for words, answer, after in () if self.scope.few_answers else bad:
                yield Step(words.format(what), True, self._answered(after, worker, answer))
        yield Step(f"{what} gets no answer", age <= TRAVEL, self._answered(orphaned, worker, "no answer"))

    def _executed(self, state: State, claim: Claim, age: int) -> Iterator[tuple[str, Answer, State]]:
        for words, answer, after in execute(state, claim, age):
            if not self.scope.few_answers or answer in ("succeeded", "refused"):
                yield words, answer, after

    def look(self, state: State, claim: Claim) -> Answer:
        """What a look-up sees."""
        return look(state, claim)

    def _answered(self, others: State, worker: Worker, answer: Answer) -> State:
        verdict = self.database.verdict(worker.claim.action, answer)
        return with_worker(others, worker._replace(verdict=verdict, request_age=None))

    def _orphaned(self, others: State, worker: Worker) -> State:
        if worker.request_age is None or worker.request_age > TRAVEL:
            return others
        return with_request(others, Request(worker.claim, worker.request_age, answered=False))

    # What happens by itself

    def _late_arrivals(self, state: State) -> Iterator[Step]:
        for request in state.in_flight:
            left = state._replace(in_flight=tuple(other for other in state.in_flight if other is not request))
            if request.answered:
                words = f"what was answered 500 ({_key(request.claim)}) is done after all"
                yield Step(words, True, reversed_by(left, request.claim, "live"))
                continue
            for words, _, after in self._executed(left, request.claim, request.age):
                if after is not left:
                    yield Step(f"the POST still under way ({_key(request.claim)}) reaches Stripe: {words}", True, after)
        for reversal in state.reversals:
            if reversal.fate == "pending":
                others = [other for other in state.reversals if other is not reversal]
                live, failed = (tuple(sorted([*others, reversal._replace(fate=fate)])) for fate in ("live", "failed"))
                yield Step("the pending reversal succeeds", False, state._replace(reversals=live))
                yield Step("the pending reversal fails", True, state._replace(reversals=failed))

    def _time(self, state: State) -> Iterator[Step]:
        later = self._tick(state)
        if later != state:
            yield Step("a tick passes", False, later)
        if not self.scope.keys_age:
            return
        row, backup = state.row, state.backup
        if row and row.status == "reversal_pending" and row.key_age == "young":
            older = row._replace(key_age="old")
            if backup is None:
                yield Step("the row's key gets 20 hours old", True, state._replace(row=older))
            elif backup.row and (backup.row.generation, backup.row.key_age) == (row.generation, "young"):
                # A key that was minted after the backup does not: no standby is 20 hours behind.
                aged = backup._replace(row=backup.row._replace(key_age="old"))
                yield Step("the row's key gets 20 hours old", True, state._replace(row=older, backup=aged))
        if backup is None or self.scope.lost == "a day":
            day = self._day(state)
            if day != state:
                forgotten = " and Stripe forgets the keys" if state.keys else ""
                yield Step(f"a day passes{forgotten}", True, day)
        if state.keys and not self.scope.assumptions.keys_last_a_day:
            yield Step("Stripe forgets the keys early", True, state._replace(keys=()))

    def _tick(self, state: State) -> State:
        assumed = self.scope.assumptions
        in_flight = []
        for request in state.in_flight:
            if request.age < TRAVEL:
                in_flight.append(request._replace(age=request.age + 1))
            elif not (assumed.errors_act_in_time if request.answered else assumed.requests_die_in_time):
                in_flight.append(request)
        row, backup = state.row, state.backup
        if backup and backup.row and not self.database.rules.failover_is_an_unknown_post:
            backup = backup._replace(row=_aged(backup.row, 1))
        return state._replace(
            row=row and _aged(row, 1),
            backup=backup,
            workers=_aged_workers(state.workers, 1),
            in_flight=tuple(in_flight),
            since_failover=min(state.since_failover + 1, QUIET),
        )

    def _day(self, state: State) -> State:
        row, backup = state.row, state.backup
        if backup:
            backup = Backup(backup.row and backup.row._replace(key_age="old"), day_old=True)
        return state._replace(
            row=row and _aged(row, QUIET)._replace(key_age="old"),
            backup=backup,
            workers=_aged_workers(state.workers, QUIET),
            in_flight=(),
            keys=(),
            since_failover=QUIET,
        )

    def _failover(self, state: State) -> Iterator[Step]:
        if not state.may_fail_over:
            return
        workers = tuple(sorted((worker._replace(owns=False) for worker in state.workers), key=order))
        after = state._replace(backup=None, may_fail_over=False, workers=workers)
        if self.scope.lost == "commits":
            row = state.backup.row if state.backup else self._kept(state.row)
            yield self._tidy(Step("a standby takes over", True, after._replace(row=row, since_failover=0)))
        elif state.backup and state.backup.day_old:
            # A worker of lapsed lease, or a dead one, is as good as stopped.
            busy = any(worker.lease_age <= LEASE or worker.request_age in range(TRAVEL + 1) for worker in state.workers)
            idle = not state.in_flight and not busy
            if idle or not self.scope.assumptions.old_copies_come_back_idle:
                yield self._tidy(Step("the old copy comes back, unnoticed", True, after._replace(row=state.backup.row)))


@cache
def _aged(row: Row, ticks: int) -> Row:
    lease = row.lease and row.lease._replace(age=min(row.lease.age + ticks, LAPSED))
    return row._replace(last_post=min(row.last_post + ticks, QUIET), lease=lease)


@cache
def _aged_workers(workers: tuple[Worker, ...], ticks: int) -> tuple[Worker, ...]:
    aged = (
        worker._replace(
            lease_age=min(worker.lease_age + ticks, LAPSED),
            request_age=None if worker.request_age is None else min(worker.request_age + ticks, TRAVEL + 1),
        )
        for worker in workers
    )
    return tuple(sorted(aged, key=order))


def _call(claim: Claim) -> str:
    return f"a POST with {_key(claim)}" if claim.action == "reverse" else "a look-up"


def _key(claim: Claim) -> str:
    return f"key {claim.generation}" + (f" of id {claim.identity}" if claim.identity else "")
