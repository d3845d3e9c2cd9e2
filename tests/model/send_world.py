"""What can happen to an order: everything that can happen to its open obligation, and requests that come and go."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.rules import LEASE, QUIET, TRAVEL, Answer, Claim, Database, Row, Rules
from tests.model.sends import AGAIN, Heard, Order, OrderRules, Orders, ended, first_order
from tests.model.state import Backup, State, Worker, with_worker, without_stale_workers, without_worker
from tests.model.stripe import look
from tests.model.world import Scope, Step, World


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one search goes."""

    generations: int = 1
    requests: int = 1
    fails_over: bool = False  # a standby some commits behind takes over, once
    keys_age: bool = True
    in_order: bool = True  # what a failover lost is heard of again before anything new, and in its order
    late: bool = False  # a POST acts at Stripe long after it should have died, once, and its worker lives to tell


class Everything(NamedTuple):
    """The whole world: the order, and what there is of its obligations at work and at Stripe."""

    order: Order
    truth: tuple[Heard, ...]  # what will be heard of the requests in the end, were it lost by a failover
    duty: State
    backup: tuple[Order, Row | None] | None
    missed: tuple[tuple[int, Heard], ...]  # what was heard since, in its order
    may_fail_over: bool
    may_be_late: bool
    read: tuple[int, Row | None] | None  # without the order's lock: a request, and the row as it saw it
    unnoticed: bool = False  # a standby took over, and nobody has noticed yet


class SendStep(NamedTuple):
    """One thing that can happen; inputs are faults, too: an end must be in reach without any."""

    words: str
    fault: bool
    after: Everything


@dataclass(frozen=True, slots=True)
class OneObligation(World):
    """The world of one obligation, the end of which is not the end."""

    by_identity: bool

    def _tidy(self, step: Step) -> Step:
        return step  # by what comes of the order

    def _executed(self, state: State, claim: Claim, age: int) -> Iterator[tuple[str, Answer, State]]:
        for words, answer, after in super(OneObligation, self)._executed(state, claim, age):
            if len(after.reversals) == len(state.reversals) or not self._reversed_for_others(state, claim):
                yield words, answer, after

    def look(self, state: State, claim: Claim) -> Answer:
        """Transfers can be listed by order, too. The list of reversals shows those for other requests."""
        if claim.identity % AGAIN:
            return "found" if self._reversed_for_others(state, claim) else look(state, claim)
        if self.by_identity:
            return look(state, claim)
        return "found" if any(made.identity % AGAIN == 0 for made in state.reversals) else "found nothing"

    def _reversed_for_others(self, state: State, claim: Claim) -> bool:
        transfer, request = divmod(claim.identity, AGAIN)
        made = (divmod(made.identity, AGAIN) for made in state.reversals)
        return request > 0 and any(of == transfer and by not in (0, request) for of, by in made)


class SendWorld:
    """Everything that can happen around one order."""

    def __init__(self, rules: OrderRules, reach: Reach, engine: Rules | None = None) -> None:
        database = Database(engine or Rules(), reach.generations)
        self.rules = rules
        self.reach = reach
        self.orders = Orders(rules, database)
        self.obligation = OneObligation(
            database, Scope(99, keys_age=reach.keys_age, few_answers=True), rules.look_up_by_identity
        )

    def first(self) -> Everything:
        """An order without a transfer, and no refund."""
        order = first_order(self.reach.requests)
        duty = State(None, 0, (), (), (), (), None, False, QUIET)
        return Everything(order, order.heard, duty, None, (), self.reach.fails_over, self.reach.late, None)

    def is_end(self, state: Everything) -> bool:
        """Nothing is to be done any more, or it is beyond the last generation."""
        row = state.duty.row
        if row is None:
            return False
        everything_heard = state.order.heard == state.truth or _is_belief_wrong(state.order)
        return self._is_beyond(row) or (row.status != "reversal_pending" and everything_heard)

    def _is_beyond(self, row: Row) -> bool:
        return row.generation > self.reach.generations

    def steps(self, state: Everything) -> Iterator[SendStep]:
        """Every step the state allows."""
        row = state.duty.row
        if row and self._is_beyond(row):
            return
        for step in self._steps(state):
            yield self._tidy(step)
            if state.may_fail_over and not state.backup and self._is_commit(state, step.after):
                kept = (state.order, row and self._taken_over(row))
                # No standby is so far behind that a key gets old meanwhile.
                duty = step.after.duty._replace(backup=Backup(None, day_old=False))
                heard = _heard_between(state, step.after)
                missed = step.after._replace(duty=duty, backup=kept, missed=heard)
                yield self._tidy(SendStep(f"{step.words}; the backup misses this and all after it", True, missed))

    def _is_commit(self, before: Everything, after: Everything) -> bool:
        promoted = self.orders.database.promoted
        old, new = before.duty.row, after.duty.row
        if before.order != after.order or (old is None) != (new is None):
            return True
        return old is not None and new is not None and promoted(old) != promoted(new)

    def _steps(self, state: Everything) -> Iterator[SendStep]:
        if state.unnoticed:
            # What goes on at Stripe and in time goes on afterwards, too.
            row = state.duty.row and self.orders.database.promoted(state.duty.row)
            duty = state.duty._replace(row=row, since_failover=0)
            yield SendStep("a claim notices", False, state._replace(duty=duty, unnoticed=False))
            yield from self._requests(state)
            return
        for step in self.obligation.steps(state.duty):
            yield self._followed(state, step)
        yield from self._requests(state)
        if self.reach.keys_age and not state.backup:
            yield from self._unsent_key_ages(state)
        if state.may_fail_over:
            yield self._failover(state)
        if state.may_be_late:
            yield from self._late(state)

    def _unsent_key_ages(self, state: Everything) -> Iterator[SendStep]:
        row = state.duty.row
        if row and row.status == "permanently_failed" and row.key_age == "young":
            duty = state.duty._replace(row=row._replace(key_age="old"))
            yield SendStep("the key of the transfer not sent gets 20 hours old", True, state._replace(duty=duty))

    def _followed(self, state: Everything, step: Step) -> SendStep:
        """A step of the obligation, and what follows for the order in the same transaction."""
        before, duty = state.duty.row, step.after
        if before is None and duty.row is not None:
            created = self.orders.create(state.order, state.duty, look_first=self._looks_first(state))
            return SendStep("the app creates the transfer", step.fault, self._after(state, *created))
        if before is not duty.row and before and before.lease and duty.row and not duty.row.lease:
            reported = self.orders.reported(state.order, before, duty, look_first=self._looks_first(state))
            return SendStep(step.words, step.fault, self._after(state, *reported))
        reporter = _reporter(state.duty, duty)
        if reporter and reporter.verdict == "reversed" and not reporter.owns:
            proved = self.orders.evidence(state.order, duty, reporter.claim.identity)
            return SendStep(f"{step.words}: late evidence", step.fault, self._after(state, *proved))
        return SendStep(step.words, step.fault, state._replace(duty=duty))

    def _looks_first(self, state: Everything) -> bool:
        return self.reach.fails_over and not state.may_fail_over and not state.unnoticed

    def _after(self, state: Everything, order: Order, duty: State) -> Everything:
        return state._replace(order=order, duty=duty)

    def _settled(self, state: Everything, order: Order, duty: State) -> Everything:
        return self._after(state, *self.orders.settled(order, duty, look_first=self._looks_first(state)))

    # Requests and withdrawals

    def _requests(self, state: Everything) -> Iterator[SendStep]:
        if state.read:
            yield self._act_on_what_was_read(state)
            return
        if state.missed and not state.may_fail_over and self.reach.in_order:
            request, heard = state.missed[0]
            words = f"refund {request}: {heard}, is heard of again"
            yield self._hear(state._replace(missed=state.missed[1:]), request, heard, words, False)
            return
        for request, (heard, truth) in enumerate(zip(state.order.heard, state.truth, strict=True), start=1):
            name = f"refund {request}"
            if heard == "unheard":
                yield from self._heard_first(state, request, truth)
            elif heard in ("standing", "spent"):
                fault = truth != "withdrawn"  # a withdrawal that was lost will be heard of again
                yield self._hear(state, request, "withdrawn", f"{name} is withdrawn", fault)
            elif heard == "forgotten":
                yield self._hear(state, request, "revived", f"{name} is heard of", False)
            elif heard == "withdrawn":
                if not self.rules.withdrawal_is_sticky:
                    yield self._hear(state, request, "revived", f"{name} is heard of once more", True)
                settled = state.order.work == "send" and state.order.sent == AGAIN * request
                if not self.rules.one_successor and settled and not state.order.counted_twice:
                    # One more row, whose look-up finds what the first one sent.
                    twice = state.order._replace(counted_twice=True)
                    yield SendStep(f"{name} is withdrawn once more", True, state._replace(order=twice))

    def _heard_first(self, state: Everything, request: int, truth: Heard) -> Iterator[SendStep]:
        name = f"refund {request}"
        lost = truth != "unheard"
        if lost or request == 1 or state.truth[request - 2] != "unheard":
            if self.rules.order_is_locked:
                yield self._hear(state, request, "standing", f"{name} is requested", not lost)
            else:
                yield SendStep(f"{name} reads the order", True, state._replace(read=(request, state.duty.row)))
            if truth != "standing":
                known: Heard = "withdrawn" if self.rules.withdrawal_is_remembered else "forgotten"
                yield self._hear(state, request, known, f"{name} is withdrawn before it is heard of", not lost)

    def _hear(self, state: Everything, request: int, heard: Heard, words: str, fault: bool) -> SendStep:
        order = self.orders.hear(state.order, request, heard)
        truth = state.truth
        known: Heard = heard if heard in ("unheard", "standing") else "withdrawn"
        if known == "withdrawn" or truth[request - 1] == "unheard":
            truth = (*truth[: request - 1], known, *truth[request:])
        missed = (*state.missed, (request, heard)) if state.backup else state.missed
        return SendStep(words, fault, self._settled(state._replace(truth=truth, missed=missed), order, state.duty))

    def _act_on_what_was_read(self, state: Everything) -> SendStep:
        assert state.read
        request, seen = state.read
        words = f"refund {request} acts on what it read"
        free = state._replace(read=None)
        order = self.orders.hear(state.order, request, "standing")
        truth = (*state.truth[: request - 1], "standing", *state.truth[request:])
        if seen == state.duty.row:
            return self._hear(free, request, "standing", words, True)
        if seen and seen.status == "reversal_pending" and state.order.work == "send" and not seen.lease:
            ended = self.orders.settled(order, free.duty._replace(row=seen))
            return SendStep(words, True, self._after(free._replace(truth=truth), *ended))
        return SendStep(words, True, free._replace(order=order, truth=truth))

    # Failover and late arrivals

    def _failover(self, state: Everything) -> SendStep:
        order, row = state.backup or (state.order, state.duty.row and self._taken_over(state.duty.row))
        workers = tuple(worker._replace(owns=False) for worker in state.duty.workers)
        duty = state.duty._replace(row=row, workers=workers, backup=None, since_failover=0)
        unnoticed = not self.rules.failover_is_noticed_by_all
        after = state._replace(order=order, duty=duty, backup=None, may_fail_over=False, unnoticed=unnoticed)
        return SendStep("a standby takes over", True, after)

    def _taken_over(self, row: Row) -> Row:
        """What a failover makes of the row at once."""
        return self.orders.database.promoted(row) if self.rules.failover_is_noticed_by_all else row

    def _late(self, state: Everything) -> Iterator[SendStep]:
        for worker in state.duty.workers:
            if worker.request_age is not None and worker.request_age > TRAVEL and not worker.verdict:
                others = without_worker(state.duty, worker)
                for _, answer, after in self.obligation._executed(others, worker.claim, TRAVEL):
                    once = sum(made.identity == worker.claim.identity for made in after.reversals) == 1
                    if answer == "succeeded" and once and len(after.reversals) > len(others.reversals):
                        told = worker._replace(request_age=None, verdict="reversed")
                        words = f"the POST of identity {worker.claim.identity} is done, much too late"
                        late = state._replace(duty=with_worker(after, told), may_be_late=False)
                        yield SendStep(words, True, late)

    # What can make no difference any more

    def _tidy(self, step: SendStep) -> SendStep:
        state = step.after
        but = None
        if self.reach.late:
            waits = state.may_be_late
            but = lambda worker: worker.verdict == "reversed" or (waits and worker.request_age is not None)  # noqa: E731
        duty = without_stale_workers(state.duty, but=but)
        row = duty.row
        may_go_on = row and (row.status == "reversal_pending" or (state.order.by and state.order.work == "send"))
        if row and not may_go_on and row != ended(row.identity, row.status):
            duty = duty._replace(row=ended(row.identity, row.status))
        if duty.keys and not (state.may_fail_over and self.reach.fails_over):
            in_use = {worker.claim.identity for worker in duty.workers}
            in_use |= {request.claim.identity for request in duty.in_flight}
            if row and may_go_on:
                in_use.add(row.identity)
            keys = tuple(key for key in duty.keys if key.identity in in_use)
            if len(keys) < len(duty.keys):
                duty = duty._replace(keys=keys)
        if duty is state.duty:
            return step
        return step._replace(after=state._replace(duty=duty))

    # What must never be

    def wrong(self, before: Everything, after: Everything, *, new: bool) -> str | None:
        """What is wrong with a state, or with the way there, in words."""
        if _posts_unwanted(before, after):
            return "sent though nobody wants it"
        if not new:
            return None
        duty, order = after.duty, after.order
        if sum(worker.lease_age <= LEASE for worker in duty.workers) > 1:
            return "two live leases"
        late = self.reach.late and not after.may_be_late
        if late and (order.loud or any(worker.verdict == "reversed" and not worker.owns for worker in duty.workers)):
            return None
        made = [thing.identity for thing in duty.reversals]
        net = sum(1 if identity % AGAIN == 0 else -1 for identity in made)
        if (len(set(made)) < len(made) or not 0 <= net <= 1) and not late:
            return "money moved twice"
        row = duty.row
        if row is None or row.status == "reversal_pending":
            return None
        if order.heard != after.truth and not _is_belief_wrong(order):
            return None  # the rest is yet to be heard of
        return _wrong_end(after, row, net)


def _heard_between(before: Everything, after: Everything) -> tuple[tuple[int, Heard], ...]:
    pairs = zip(before.order.heard, after.order.heard, strict=True)
    return tuple((request, new) for request, (old, new) in enumerate(pairs, start=1) if new != old)


def _is_belief_wrong(order: Order) -> bool:
    return any(heard in ("revived", "forgotten", "spent") for heard in order.heard)


def _wrong_end(state: Everything, row: Row, net: int) -> str | None:
    order = state.order
    done = row.status == "reversed"
    paid = done if order.work == "send" else not done
    if net > paid:
        return "given up, yet paid"
    if net < paid:
        return "paid in the books only"
    if order.counted_twice:
        return "the books say more than Stripe"
    withdrawn = order.by and order.heard[order.by - 1] == "withdrawn"
    loud = not done and not withdrawn and (order.work == "reverse" or not order.by)
    refunded = "standing" in state.truth
    if loud or paid != refunded:
        return None
    return "paid for a refunded order, in silence" if paid else "not paid, in silence"


def _posts_unwanted(before: Everything, after: Everything) -> bool:
    old, new = before.duty.row, after.duty.row
    if not new or not new.lease or new.lease.action != "reverse" or (old and old.lease == new.lease):
        return False
    if new.lease.age or (old and old.lease and old.lease.age <= LEASE):
        return False
    heard = after.order.heard
    return "standing" in heard if after.order.work == "send" else heard[after.order.by - 1] == "withdrawn"


def _reporter(before: State, after: State) -> Worker | None:
    """The worker that has reported."""
    if len(after.workers) >= len(before.workers):
        return None
    gone = [worker for worker in before.workers if worker not in after.workers]
    return gone[0] if gone and gone[0].verdict else None
