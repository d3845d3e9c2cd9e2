"""What the database does about one order: one transfer to be sent, and refunds that come and go at any time.

Each send and each reversal is an obligation of its own. How one is leased, called, looked up and ended is said in
rules.py, and holds for both: there `reversed` reads "done" and `permanently_failed` "ended undone". Here is what is
said beyond that: what a request, its withdrawal, or the end of an obligation makes of the order. All of it is one
function, `settled`, of what is known: whatever comes in changes that, and then the order is settled.

Stripe does not refuse a second transfer. It refuses to reverse one that is reversed for another request; what it would
say to a second reversal for the same one is left open: the rules of one obligation do not need it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model.rules import QUIET, Database, Row, Status
from tests.model.state import State
from tests.model.state import order as sort_key

Heard = Literal[
    "unheard",
    "standing",
    "withdrawn",
    "forgotten",  # withdrawn before it was heard of, and that was not kept
    "revived",  # withdrawn, and yet it is taken for standing
    "spent",  # standing, but there was nothing left to take, and that is taken for the end of it
]
Work = Literal["send", "reverse"]

# Identities: 0 is the transfer the app named, 10 and 20 the compensations for requests 1 and 2. A reversal of one of
# these for a request has the sum of both numbers.
AGAIN = 10


@dataclass(frozen=True, slots=True)
class OrderRules:
    """All rules hold; `replace(OrderRules(), name=False)` is the system without one of them."""

    order_is_locked: bool = True  # while a request reads what there is to take, and until it took it
    request_outlives_its_lines: bool = True  # one for everything takes what is born or becomes known later, too
    refund_stops_posts: bool = True  # from then on look-ups only
    withdrawal_stops_posts: bool = True  # of the reversal that nobody wants any more
    only_known_rows_are_given_up: bool = True  # not leased, not unknown
    unseen_row_is_looked_up: bool = True  # "never sent" is no knowledge after a failover
    look_up_by_identity: bool = True  # not by order: that finds the transfer that was reversed
    withdrawal_is_sticky: bool = True  # the request may be delivered once more
    withdrawal_is_remembered: bool = True  # where it comes before its request
    withdrawal_reaches_ended_reversals: bool = True  # a reversal that failed for good takes the row out of reach
    own_request_takes_no_compensation: bool = True
    compensation_has_its_own_identity: bool = True  # or its look-up finds the transfer that was reversed
    again_goes_on_where_it_stopped: bool = True  # identity and key: a failover may bring back the row it follows
    predecessor_counts_no_more: bool = True
    one_successor: bool = True  # however often the withdrawal is heard of
    adopted_transfer_may_be_reversed: bool = True  # a history lost by a failover may have done that
    adoption_waits_for_quiet: bool = True  # after a failover: or may be about to do that
    late_evidence_is_heard: bool = True
    evidence_outlasts_answers: bool = True  # refusals and absences that were on their way when it came
    late_successor_keeps_the_identity: bool = True
    late_reversal_is_looked_up: bool = True  # where the row of a reversal that was given up has a successor by now
    failover_is_noticed_by_all: bool = True  # by whoever comes first, and not only by the first claim


class Order(NamedTuple):
    """What the database knows of the order beside the open obligation, which is `State.row`."""

    heard: tuple[Heard, ...]  # of each request
    work: Work  # what the obligation is
    sent: int  # identity of the transfer
    by: int  # the request, from 1, for which money is taken back or the transfer was not sent; 0 for none
    counted_twice: bool  # an earlier row still counts
    loud: bool  # a person was told
    proved: bool  # late evidence says that the open obligation was done


def first_order(requests: int) -> Order:
    """Nothing is heard of."""
    unheard: Heard = "unheard"
    return Order((unheard,) * requests, "send", 0, 0, False, False, False)


@dataclass(frozen=True, slots=True)
class Orders:
    """The functions of the database that create or move the money of an order."""

    rules: OrderRules
    database: Database

    def hear(self, order: Order, request: int, heard: Heard) -> Order:
        """A request, or its withdrawal, is written down."""
        if heard == "standing" and order.by and not self.rules.request_outlives_its_lines:
            heard = "spent"
        return order._replace(heard=(*order.heard[: request - 1], heard, *order.heard[request:]))

    def create(self, order: Order, duty: State, *, look_first: bool) -> tuple[Order, State]:
        """The app creates the transfer: due now, or not any more."""
        return self.settled(order, _with_row(duty, self._born(duty, 0, looked=not look_first)), look_first=look_first)

    def settled(self, order: Order, duty: State, *, look_first: bool = False) -> tuple[Order, State]:
        """What follows, in the same transaction, from what is known of the row and the requests."""
        while (after := self._next(order, duty, look_first)) is not None:
            order, duty = after
        return order, duty

    def _next(self, order: Order, duty: State, look_first: bool) -> tuple[Order, State] | None:
        row = duty.row
        if row is None:
            return None
        if order.work == "send":
            return self._next_of_send(order, duty, row, look_first)
        return self._next_of_reversal(order, duty, row, look_first)

    def _next_of_send(self, order: Order, duty: State, row: Row, look_first: bool) -> tuple[Order, State] | None:
        taker = self._taker(order)
        if row.status == "reversal_pending":
            if not taker:
                lift = row.halted and not order.proved
                return (order, _with_row(duty, row._replace(halted=False))) if lift else None
            if self._is_known(row, look_first):
                return order._replace(by=taker), _disowned(duty, _given_up(row))
            halting = not row.halted and self.rules.refund_stops_posts
            return (order, _with_row(duty, row._replace(halted=True))) if halting else None
        if row.status == "reversed":
            if not taker:
                return None
            reversal = self._born(duty, order.sent + taker, looked=not look_first)
            return order._replace(work="reverse", by=taker), _disowned(duty, reversal)
        if not order.by:
            waited = row.halted and taker
            refused = row._replace(generation=row.generation + 1, key_age="young", sent=False)
            return (order._replace(by=taker), _with_row(duty, _given_up(refused))) if waited else None
        if not self._is_withdrawn(order, order.by):
            return None
        return self._again(order, duty, row)

    def _next_of_reversal(self, order: Order, duty: State, row: Row, look_first: bool) -> tuple[Order, State] | None:
        if not self._is_withdrawn(order, order.by):
            return None
        if row.status == "reversed":
            identity = AGAIN * order.by if self.rules.compensation_has_its_own_identity else order.sent
            compensation = self._born(duty, identity, looked=False)
            return order._replace(work="send", sent=identity, by=0), _disowned(duty, compensation)
        if row.status == "reversal_pending" and not self._is_known(row, look_first):
            if row.halted or not self.rules.withdrawal_stops_posts:
                return None
            return order, _with_row(duty, row._replace(halted=True))
        if row.status == "permanently_failed" and not self.rules.withdrawal_reaches_ended_reversals:
            return None
        completed = ended(order.sent, "reversed")
        counted_twice = not self.rules.predecessor_counts_no_more
        return order._replace(work="send", by=0, counted_twice=counted_twice), _disowned(duty, completed)

    def _again(self, order: Order, duty: State, row: Row) -> tuple[Order, State]:
        """A successor, pending: the transfer was not sent because of a request that is withdrawn now."""
        if self.rules.again_goes_on_where_it_stopped:
            successor = self._resumed(row, duty.since_failover)
        else:
            successor = self._born(duty, AGAIN * order.by, looked=False)
        return order._replace(sent=successor.identity, by=0), _disowned(duty, successor)

    def reported(self, order: Order, before: Row, duty: State, *, look_first: bool) -> tuple[Order, State]:
        """A worker that holds the lease has reported, and the obligation is what that makes of it."""
        row = duty.row
        assert row
        assert before.lease
        unproved = order.proved and row.status != "reversed"
        looked = before.lease.action == "look_up_reversals" and row.status == "reversed" and order.work == "send"
        early = looked and look_first and not before.lease.after_quiet and self.rules.adoption_waits_for_quiet
        if unproved or early:
            halted = before.halted or order.proved
            return order, _with_row(duty, before._replace(lease=None, unknown=True, looked=False, halted=halted))
        if row.status == "reversed":
            order = order._replace(proved=False)
            for made in duty.reversals:
                if made.identity in range(order.sent + 1, order.sent + AGAIN):
                    order, duty = self._adopted(order, duty, made.identity - order.sent)
                    break
        return self.settled(order, duty, look_first=look_first)

    def _adopted(self, order: Order, duty: State, request: int) -> tuple[Order, State]:
        """A look-up found the transfer reversed for that request, by a lost history."""
        if order.work == "send" and not self.rules.adopted_transfer_may_be_reversed:
            return order, duty
        reversal = ended(order.sent + request, "reversed")
        return order._replace(work="reverse", by=request), _disowned(duty, reversal)

    def evidence(self, order: Order, duty: State, identity: int) -> tuple[Order, State]:
        """Proof, under a token that is not the row's, that an obligation was done."""
        row = duty.row
        assert row is not None
        if not self.rules.late_evidence_is_heard:
            return order, duty
        if row.identity == identity and row.status == "reversal_pending":
            row = row._replace(unknown=True, looked=False)
            proved = self.rules.evidence_outlasts_answers
            return order._replace(proved=proved), _with_row(duty, row._replace(halted=row.halted or proved))
        if row.identity == identity and row.status == "permanently_failed" and order.work == "send":
            looking = self._born(duty, identity, looked=False)
            if not self.rules.late_successor_keeps_the_identity:
                looking = looking._replace(identity=identity + 5)
                order = order._replace(sent=identity + 5)
            else:
                looking = looking._replace(unknown=True)
            return self.settled(order._replace(by=0), _disowned(duty, looking))
        request = identity - order.sent
        if order.work == "send" and row.status == "reversed" and request in range(1, AGAIN):
            if not self.rules.late_reversal_is_looked_up:
                return order, duty
            looking = self._born(duty, identity, looked=False)._replace(unknown=True)
            return self.settled(order._replace(work="reverse", by=request), _disowned(duty, looking))
        return order._replace(loud=True), duty

    def _resumed(self, row: Row, since_failover: int) -> Row:
        """The obligation goes on where it stopped: under the key it had, unless that was refused for good."""
        row = row._replace(status="reversal_pending", looked=False)
        # A lost history may have resumed it before.
        return row._replace(unknown=True, last_post=since_failover) if since_failover < QUIET else row

    def _born(self, duty: State, identity: int, *, looked: bool) -> Row:
        return self.database.born(0, duty.since_failover)._replace(identity=identity, looked=looked)

    def _is_known(self, row: Row, look_first: bool) -> bool:
        if not self.rules.only_known_rows_are_given_up:
            return True
        if look_first and not row.looked and self.rules.unseen_row_is_looked_up:
            return False
        return row.lease is None and not row.unknown

    def _taker(self, order: Order) -> int:
        """The first request that wants the money of the row back; 0 for none."""
        for request, heard in enumerate(order.heard, start=1):
            if heard in ("standing", "revived") or self._is_its_own_prey(order, request):
                return request
        return 0

    def _is_withdrawn(self, order: Order, request: int) -> bool:
        return order.heard[request - 1] == "withdrawn" and not self._is_its_own_prey(order, request)

    def _is_its_own_prey(self, order: Order, request: int) -> bool:
        return order.sent == AGAIN * request and not self.rules.own_request_takes_no_compensation


def _with_row(duty: State, row: Row) -> State:
    return duty._replace(row=row)


def _disowned(duty: State, row: Row) -> State:
    """The state with another row: no worker holds a lease of that one."""
    workers = tuple(sorted((worker._replace(owns=False) for worker in duty.workers), key=sort_key))
    return duty._replace(row=row, workers=workers)


def _given_up(row: Row) -> Row:
    """A send that is wanted no more, and may be again."""
    return row._replace(status="permanently_failed", looked=False, unknown=False, halted=False)


def ended(identity: int, status: Status) -> Row:
    """An obligation that came to its end: what it went through matters no more."""
    return Row(status, identity, 1, "old", True, False, False, False, QUIET, None)
