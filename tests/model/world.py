"""What can happen around the database: workers, Stripe, time, failover. Every step a state allows, in words.

The two workers are alike, so a state holds them as a sorted pair of what they are at; an idle worker is nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model.rules import LAPSED, LEASE, QUIET, TRAVEL, Answer, Claim, Database, Row

WORKERS = 2
DEAD = TRAVEL + 1

Stored = Literal["succeeded", "accepted", "refused", "server error"]
Fate = Literal["live", "pending", "failed"]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the rules rest on. Without one of these no rule helps, so the README has to say them."""

    requests_die_in_time: bool = True  # within TRAVEL of the worker's last check of its lease
    errors_act_in_time: bool = True  # what a stored server error does, it does within TRAVEL of that check, too
    refusals_are_stored: bool = True  # or would be given to every copy of the request
    keys_last_a_day: bool = True
    restores_find_nothing_in_flight: bool = True  # when a day or more is lost


@dataclass(frozen=True, slots=True)
class Scope:
    """How far one search goes."""

    generations: int = 2
    failover: bool = False  # a standby takes over, some commits behind
    restore: bool = False  # a copy a day old comes back, and nothing tells the database
    assumptions: Assumptions = Assumptions()


class Request(NamedTuple):
    """A POST that left a worker and that nobody waits for any more."""

    claim: Claim
    age: int  # ticks since the worker's last check of its lease
    answered: bool  # Stripe stored a server error for it and may yet do what it asks


class Worker(NamedTuple):
    """A worker that has claimed the row."""

    claim: Claim
    owns: bool  # its token is the row's
    owned_before: bool  # its token is that of the row in the backup
    lease_age: int  # by its own clock
    request_age: int | None  # of the POST it waits for
    answer: Answer | None  # not yet reported


class Key(NamedTuple):
    """An idempotency key with its stored answer."""

    identity: int
    generation: int
    parameters: int
    stored: Stored


class Reversal(NamedTuple):
    """A reversal made at Stripe."""

    identity: int
    generation: int
    fate: Fate


class Backup(NamedTuple):
    """The state a standby or a copy of the disk has."""

    row: Row | None
    day_old: bool


class State(NamedTuple):
    """The whole world."""

    row: Row | None
    births: int
    workers: tuple[Worker, ...]
    in_flight: tuple[Request, ...]
    keys: tuple[Key, ...]
    reversals: tuple[Reversal, ...]
    backup: Backup | None
    may_fail_over: bool
    since_failover: int


class Step(NamedTuple):
    """One thing that can happen."""

    words: str
    fault: bool
    after: State


def first_state(scope: Scope) -> State:
    """Nobody has asked for anything."""
    return State(None, 0, (), (), (), (), None, scope.failover or scope.restore, QUIET)


def violation(state: State) -> str | None:
    """What is wrong with a state, in words."""
    live = sum(reversal.fate != "failed" for reversal in state.reversals)
    if live > 1:
        return "money moved twice"
    if sum(worker.lease_age <= LEASE for worker in state.workers) > 1:
        return "two live leases"
    if state.row is None or state.row.status == "reversal_pending":
        return None
    if state.row.status == "parked":
        return "parked for nothing"
    if state.row.status == "permanently_failed":
        return "given up, yet reversed" if live else None
    return None if any(reversal.fate == "live" for reversal in state.reversals) else "reversed without evidence"


@dataclass(frozen=True, slots=True)
class World:
    """Everything that can happen, given the database's rules."""

    database: Database
    scope: Scope

    def steps(self, state: State) -> Iterator[Step]:
        """Every step the state allows."""
        if state.row and state.row.generation > self.database.generations:
            return  # as far as this model counts
        yield from self._people(state)
        yield from self._claims(state)
        for worker in state.workers:
            rest = list(state.workers)
            rest.remove(worker)
            yield from self._worker(state._replace(workers=tuple(rest)), worker)
        for request in state.in_flight:
            after = _without(state, request)
            if request.answered:
                yield Step(
                    f"what Stripe answered 500 to ({_key(request.claim)}) happens after all",
                    True,
                    _moved(after, request.claim, "live"),
                )
                continue
            for what, _answer, effect in self._execute(after, request.claim, request.age):
                if effect != after:
                    yield Step(f"the POST still under way ({_key(request.claim)}) reaches Stripe: {what}", True, effect)
        yield from self._time(state)
        yield from self._stripe(state)
        if state.may_fail_over:
            yield from self._failover(state)

    def _people(self, state: State) -> Iterator[Step]:
        if state.row is None:
            row = self.database.born(state.births, state.since_failover)
            yield Step("the app requests the reversal", False, state._replace(row=row, births=min(state.births + 1, 1)))
        else:
            given_up = self.database.give_up(state.row)
            if given_up:
                yield Step("a person gives the row up", True, state._replace(row=given_up))

    def _claims(self, state: State) -> Iterator[Step]:
        if state.row is None or len(state.workers) == WORKERS:
            return
        claimed = self.database.claim(state.row, state.since_failover)
        if claimed is None:
            return
        row, claim = claimed
        others = tuple(worker._replace(owns=False) for worker in state.workers)
        after = _with(state._replace(row=row, workers=others), Worker(claim, True, False, 0, None, None))
        what = f"POST with {_key(claim)}" if claim.action == "reverse" else "look-up"
        yield Step(f"a worker claims the row: {what}", False, after)

    def _worker(self, others: State, worker: Worker) -> Iterator[Step]:
        """What a worker can do next; `others` is the world without it."""
        claim = worker.claim
        what = f"the POST with {_key(claim)}" if claim.action == "reverse" else "the look-up"
        orphan = others
        if worker.answer is not None:
            row = others.row
            if row is not None:
                row = self.database.report(row, claim, worker.answer, owns=worker.owns)
            stale = "" if worker.owns else ", but its lease is not the row's"
            yield Step(f"the worker reports of {what}: {worker.answer}{stale}", False, others._replace(row=row))
        elif worker.request_age is not None:
            if worker.request_age <= TRAVEL:
                request = Request(claim, worker.request_age, answered=False)
                orphan = _flying(others, request)
                for words, answer, after in self._execute(others, claim, worker.request_age):
                    fault = answer not in ("succeeded", "replayed server error")
                    yield Step(f"{what} reaches Stripe: {words}", fault, _answered(after, worker, answer))
                yield Step(
                    f"a proxy answers {what} with a 200 of its own", True, _answered(orphan, worker, "strange success")
                )
                yield Step(f"{what} is answered 429", True, _answered(others, worker, "throttled"))
                if any(request.claim[1:3] == claim[1:3] and not request.answered for request in others.in_flight):
                    yield Step(f"{what} is answered 409", True, _answered(others, worker, "key in use"))
            yield Step(f"{what} gets no answer", worker.request_age <= TRAVEL, _answered(orphan, worker, "no answer"))
        elif worker.lease_age <= LEASE or not self.database.rules.lease_checked_before_send:
            late = " on a lapsed lease" if worker.lease_age > LEASE else ""
            if claim.action == "reverse":
                yield Step(f"the worker sends {what}{late}", False, _with(others, worker._replace(request_age=0)))
            else:
                seen = _look(others, claim)
                yield Step(f"{what} reads: {seen}", False, _answered(others, worker, seen))
                yield Step(f"{what} is refused", True, _answered(others, worker, "look-up refused"))
                yield Step(f"{what} reads one page of several", True, _answered(others, worker, "some pages only"))
        else:
            yield Step(f"the worker does not send {what}: too late", False, _answered(others, worker, "not sent"))
        yield Step(f"the worker of {what} dies", True, orphan)

    def _execute(self, state: State, claim: Claim, age: int) -> Iterator[tuple[str, Answer, State]]:
        """A POST arrives at Stripe: what it does there and how it is answered."""
        for key in state.keys:
            if key[:2] == claim[1:3]:
                if key.parameters != claim.parameters:
                    yield "400, other parameters than before", "other parameters", state
                elif key.stored == "server error":
                    yield "the stored 500 again", "replayed server error", state
                else:
                    yield f"the stored answer again ({key.stored})", key.stored, state
                return
        done = _moved(state, claim, "live")
        yield "done", "succeeded", _stored(done, claim, "succeeded")
        yield "accepted, pending", "accepted", _stored(_moved(state, claim, "pending"), claim, "accepted")
        yield "refused with 400", "refused", _stored(state, claim, "refused")
        failed = _stored(state, claim, "server error")
        yield "500, nothing done", "server error", failed
        yield "500, yet done", "server error", _stored(done, claim, "server error")
        yield "500, to be done later", "server error", _flying(failed, Request(claim, age, answered=True))
        if not self.scope.assumptions.refusals_are_stored:
            yield "refused with 400, not stored", "refused", state

    def _time(self, state: State) -> Iterator[Step]:
        row = state.row
        if row and row.lease and row.lease.age <= LEASE:
            lapsed = row._replace(lease=row.lease._replace(age=LAPSED))
            workers = (w._replace(lease_age=LAPSED) if w.owns else w for w in state.workers)
            yield Step(
                "the lease runs out", True, state._replace(row=lapsed, workers=tuple(sorted(workers, key=_order)))
            )
        later = self._tick(state)
        if later != state:
            yield Step("a tick passes", False, later)
        if row and row.key_age == "young" and row.status == "reversal_pending":
            backup = state.backup
            if backup and backup.row:
                backup = backup._replace(row=backup.row._replace(key_age="old"))
            older = state._replace(row=row._replace(key_age="old"), backup=backup)
            yield Step("the row's key becomes 20 hours old", False, older)
        day = state
        for _ in range(QUIET):
            day = self._tick(day)
        row = day.row and day.row._replace(key_age="old")
        backup = day.backup
        if backup:
            backup = Backup(backup.row and backup.row._replace(key_age="old"), day_old=True)
            if not self.scope.restore:
                return
        day = day._replace(row=row, backup=backup)
        if state.keys:
            yield Step("a day passes and Stripe forgets the keys", False, day._replace(keys=()))
        elif day != state:
            yield Step("a day passes", False, day)
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
        workers = [
            worker._replace(
                lease_age=min(worker.lease_age + 1, LAPSED),
                request_age=None if worker.request_age is None else min(worker.request_age + 1, DEAD),
            )
            for worker in state.workers
        ]
        return state._replace(
            row=_row_later(state.row),
            backup=state.backup and state.backup._replace(row=_row_later(state.backup.row)),
            workers=tuple(sorted(workers, key=_order)),
            in_flight=tuple(sorted(in_flight)),
            since_failover=min(state.since_failover + 1, QUIET),
        )

    def _stripe(self, state: State) -> Iterator[Step]:
        for reversal in state.reversals:
            if reversal.fate == "pending":
                for fate in ("live", "failed"):
                    others = [other for other in state.reversals if other is not reversal]
                    settled = tuple(sorted([*others, reversal._replace(fate=fate)]))
                    words = f"the pending reversal {'succeeds' if fate == 'live' else 'fails'}"
                    yield Step(words, fate == "failed", state._replace(reversals=settled))

    def _failover(self, state: State) -> Iterator[Step]:
        backup = state.backup
        if backup is None:
            workers = tuple(sorted((w._replace(owned_before=w.owns) for w in state.workers), key=_order))
            backed_up = state._replace(backup=Backup(state.row, day_old=False), workers=workers)
            yield Step("the backup's last commit", True, backed_up)
            return
        workers = tuple(
            sorted((w._replace(owns=w.owned_before, owned_before=False) for w in state.workers), key=_order)
        )
        after = state._replace(row=backup.row, backup=None, may_fail_over=False, workers=workers)
        if backup.day_old:
            busy = state.in_flight or state.workers
            if not (busy and self.scope.assumptions.restores_find_nothing_in_flight):
                yield Step("the backup is restored, unnoticed", True, after)
        elif self.scope.failover:
            row = backup.row and self.database.promoted(backup.row)
            yield Step("the backup takes over", True, after._replace(row=row, since_failover=0))


def _order(worker: Worker) -> tuple[object, ...]:
    return (
        worker.claim,
        worker.owns,
        worker.owned_before,
        worker.lease_age,
        worker.request_age or 0,
        worker.request_age is None,
        worker.answer or "",
    )


def _with(state: State, worker: Worker) -> State:
    return state._replace(workers=tuple(sorted([*state.workers, worker], key=_order)))


def _answered(state: State, worker: Worker, answer: Answer) -> State:
    return _with(state, worker._replace(answer=answer, request_age=None))


def _flying(state: State, request: Request) -> State:
    return state._replace(in_flight=tuple(sorted({*state.in_flight, request})))


def _without(state: State, request: Request) -> State:
    return state._replace(in_flight=tuple(other for other in state.in_flight if other != request))


def _stored(state: State, claim: Claim, stored: Stored) -> State:
    key = Key(claim.identity, claim.generation, claim.parameters, stored)
    return state._replace(keys=tuple(sorted([*state.keys, key])))


def _moved(state: State, claim: Claim, fate: Fate) -> State:
    reversal = Reversal(claim.identity, claim.generation, fate)
    return state._replace(reversals=tuple(sorted([*state.reversals, reversal])))


def _key(claim: Claim) -> str:
    return f"key {claim.generation}" if claim.identity == 0 else f"key {claim.generation} of the new id"


def _row_later(row: Row | None) -> Row | None:
    if row is None:
        return None
    lease = row.lease and row.lease._replace(age=min(row.lease.age + 1, LAPSED))
    return row._replace(last_post=min(row.last_post + 1, QUIET), lease=lease)


def _look(state: State, claim: Claim) -> Answer:
    """What the list of the transfer's reversals shows of the identity asked for."""
    ours = [reversal for reversal in state.reversals if reversal.identity == claim.identity]
    if any(reversal.fate == "live" for reversal in ours):
        return "found"
    if any(reversal.fate == "pending" for reversal in ours):
        return "found pending"
    if any(reversal.generation == claim.generation for reversal in ours):
        return "found failed"
    return "found failed of another generation" if ours else "found nothing"
