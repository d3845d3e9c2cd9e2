"""Everything there is at one moment, and what must never be.

The two workers are alike, so a state holds those at work in sorted order, and an idle worker not at all.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from tests.model.rules import LEASE, QUIET, TRAVEL, Claim, Row, Verdict

Stored = Literal["succeeded", "accepted", "refused", "server error"]
Fate = Literal["live", "pending", "failed"]


class Worker(NamedTuple):
    """A worker that has claimed the row."""

    claim: Claim
    owns: bool  # its lease token is the row's
    lease_age: int  # by its own clock
    request_age: int | None  # of the POST it waits for
    verdict: Verdict | None  # on the answer it has yet to report


class Request(NamedTuple):
    """A POST that left a worker and that nobody waits for any more."""

    claim: Claim
    age: int  # ticks since the worker's last check of its lease
    answered: bool  # Stripe stored a server error for it and may yet do what it asks


class Key(NamedTuple):
    """An idempotency key with the answer Stripe stored for it."""

    identity: int
    generation: int
    parameters: int
    stored: Stored


class Reversal(NamedTuple):
    """A reversal Stripe made."""

    identity: int
    generation: int
    fate: Fate


class Backup(NamedTuple):
    """What a standby, or a copy of the disk, will come back with."""

    row: Row | None
    day_old: bool


class State(NamedTuple):
    """The whole world."""

    row: Row | None
    births: int  # how often the app has asked: 0, 1 for more
    workers: tuple[Worker, ...]
    in_flight: tuple[Request, ...]
    keys: tuple[Key, ...]
    reversals: tuple[Reversal, ...]
    backup: Backup | None
    may_fail_over: bool
    since_failover: int  # ticks, up to QUIET


def violation(before: State, after: State) -> str | None:
    """What is wrong with a state, or with the way there, in words."""
    live = sum(reversal.fate != "failed" for reversal in after.reversals)
    if live > 1:
        return "money moved twice"
    if sum(worker.lease_age <= LEASE for worker in after.workers) > 1:
        return "two live leases"
    old, new = before.row, after.row
    if new is None:
        return None
    if new.status == "parked":
        return "parked for nothing"
    if new.status == "permanently_failed" and live:
        return "given up, yet reversed"
    if new.status == "reversed" and all(reversal.fate != "live" for reversal in after.reversals):
        return "reversed without evidence"
    if old and new.generation > old.generation > 0 and not old.sent:
        used = any(reversal.generation == old.generation for reversal in before.reversals)
        return None if used else "a key replaced unused"
    return None


def order(worker: Worker) -> tuple[object, ...]:
    """A key to sort workers by; None does not sort."""
    request_age = -1 if worker.request_age is None else worker.request_age
    return (worker.claim, worker.owns, worker.lease_age, request_age, worker.verdict or "")


def with_worker(state: State, worker: Worker) -> State:
    """One more worker is at work."""
    if not state.workers:
        return state._replace(workers=(worker,))
    return state._replace(workers=tuple(sorted([*state.workers, worker], key=order)))


def without_worker(state: State, worker: Worker) -> State:
    """That worker is idle again."""
    return state._replace(workers=tuple(other for other in state.workers if other is not worker))


def with_request(state: State, request: Request) -> State:
    """A request is on its way to Stripe. Of copies of one the youngest can do all that the others can."""
    others = [other for other in state.in_flight if (other.claim, other.answered) != (request.claim, request.answered)]
    age = min(other.age for other in (*state.in_flight, request) if other[::2] == request[::2])
    return state._replace(in_flight=tuple(sorted([*others, request._replace(age=age)])))


def without_stale_workers(state: State, *, but: Callable[[Worker], bool] | None = None) -> State:
    """Nobody listens to a worker that lost the row, `but` to some. What it sent may still arrive."""
    for worker in state.workers:
        if worker.lease_age > LEASE and not worker.owns and not (but and but(worker)):
            state = without_worker(state, worker)
            if worker.request_age is not None and worker.request_age <= TRAVEL:
                state = with_request(state, Request(worker.claim, worker.request_age, answered=False))
    return state


FINISHED = Row("reversal_pending", 0, 0, "old", True, False, False, False, QUIET, None)


def tidy(state: State, *, stale_workers_matter: bool, failed_reversals_matter: bool) -> State:
    """The state without what can make no difference any more.

    Under some rules more matters: reports of workers that lost the row, failed reversals of earlier generations.
    """
    row = state.row
    if not stale_workers_matter:
        state = without_stale_workers(state)
    if row is None:
        return state
    if row.status != "reversal_pending":
        state = state._replace(row=FINISHED._replace(status=row.status))
    if not state.keys and not state.reversals:
        return state
    in_use = [worker.claim.generation for worker in state.workers]
    in_use += [request.claim.generation for request in state.in_flight]
    in_use.append(row.generation if row.status == "reversal_pending" else 9)
    if state.backup:
        in_use.append(state.backup.row.generation if state.backup.row else 1)
    oldest = min(in_use)
    if state.keys and state.keys[0].generation < oldest:
        state = state._replace(keys=tuple(key for key in state.keys if key.generation >= oldest))
    if state.reversals and state.reversals[0].generation < oldest and not failed_reversals_matter:
        matter = (made for made in state.reversals if made.fate != "failed" or made.generation >= oldest)
        state = state._replace(reversals=tuple(matter))
    return state
