"""Whatever order a set of events comes in, and however often each, the database ends in the same state.

Each set is played in all its orders, each event twice; orders with a common beginning share it, by savepoints.
"""

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.databases import Database, rows
from tests.support.events import (
    Event,
    asked,
    by_events,
    charge,
    dispute,
    event,
    ingest,
    moved,
    refund,
    states,
    stripe_transfer,
)
from tests.support.transfers import call, record_transfer

pytest_plugins = ("tests.support.rolled_back",)

State = dict[str, object]
Given = tuple[dict[str, int], Callable[[Database], None], list[Event]]


def refund_events(n: int, amount: int, *statuses: str) -> list[Event]:
    types = {"pending": "refund.created", "failed": "refund.failed"}
    return [event(types.get(each, "refund.updated"), refund(f"re_{n}", amount, each)) for each in statuses]


def known(*amounts: int) -> Callable[[Database], None]:
    """Transfers of these amounts, paid from charge ch_1 of 100."""

    def record(db: Database) -> None:
        for n, amount in enumerate(amounts, start=1):
            values = {"p_order_id": "order-1", "p_source_charge": "ch_1", "p_charge_amount": 100}
            record_transfer(db, n, p_amount=amount, **values)

    return record


def captured(db: Database) -> None:
    """A transfer of 54 from ch_1, of which 60 of 100 were captured, as the app knows."""
    record_transfer(db, 1, p_order_id="order-1", p_amount=54, p_source_charge="ch_1", p_charge_amount=60)


def of_unknown_amount(db: Database) -> None:
    """A transfer of 90 in an order whose charge is only known to Stripe."""
    record_transfer(db, 1, p_amount=90)


# What is asked of each transfer in the end, what the database knows before, and what Stripe tells.
SETS: dict[str, Given] = {
    "a refund that fails after it succeeded": (
        {},
        known(90),
        [*refund_events(1, 50, "pending", "succeeded", "failed"), event("charge.refunded", charge(amount_refunded=50))],
    ),
    "two refunds of the whole": (
        {"key-1": 90, "key-2": 7},
        known(90, 7),
        [*refund_events(1, 50, "pending", "succeeded"), *refund_events(2, 50, "pending", "succeeded")],
    ),
    # 1.4, 2.8 and 4.2 of the first, 3.9 and so on of the second: without re_1 it is 2.8 and 7.8.
    "three refunds, one of which fails": (
        {"key-1": 3, "key-2": 8},
        known(14, 39),
        [
            *refund_events(1, 10, "succeeded", "failed"),
            *refund_events(2, 10, "succeeded"),
            *refund_events(3, 10, "succeeded"),
        ],
    ),
    "a charge that only Stripe knows": (
        {"key-1": 45},
        of_unknown_amount,
        [
            event("charge.succeeded", charge(transfer_group="order-1", payment_intent="pi_1")),
            event("charge.refunded", charge(transfer_group="order-1", payment_intent="pi_1", amount_refunded=50)),
            event("refund.updated", refund("re_1", 25, charge=None, payment_intent="pi_1")),
            *refund_events(2, 25, "succeeded"),
        ],
    ),
    "a dispute that is lost, after a refund": (
        {"key-1": 90},
        known(90),
        [
            event("charge.dispute.created", dispute(amount=70)),
            event("charge.dispute.funds_withdrawn", dispute(amount=70)),
            event("charge.dispute.closed", dispute(amount=70, status="lost")),
            *refund_events(1, 30, "pending", "succeeded"),
        ],
    ),
    "a dispute that is won, beside a refund": (
        {"key-1": 27},
        known(90),
        [
            event("charge.dispute.funds_withdrawn", dispute(amount=70)),
            event("charge.dispute.closed", dispute(amount=70, status="won")),
            event("charge.dispute.funds_reinstated", dispute(amount=70, status="won")),
            *refund_events(1, 30, "succeeded"),
        ],
    ),
    # 100 of 100 were taken and 60 refunded; 60 of the dispute came back, so the buyer has it all and no more.
    "a dispute of all that is won in part, beside a refund": (
        {"key-1": 90},
        known(90),
        [
            event("charge.dispute.funds_withdrawn", dispute(balance_transactions=moved(-100))),
            event("charge.dispute.funds_reinstated", dispute(status="lost", balance_transactions=moved(-100, 60))),
            event("charge.dispute.closed", dispute(status="lost", balance_transactions=moved(-100))),
            *refund_events(1, 60, "succeeded"),
        ],
    ),
    "two disputes, one won in part and one not yet, and a refund": (
        {"key-1": 72, "key-2": 6},
        known(90, 7),
        [
            event("charge.dispute.funds_withdrawn", dispute("dp_1", 50)),
            event("charge.dispute.closed", dispute("dp_1", 50, "lost", balance_transactions=moved(-50, 30))),
            event("charge.dispute.funds_withdrawn", dispute("dp_2", 50)),
            *refund_events(3, 10, "succeeded"),
        ],
    ),
    "a dispute of which it is told later how much came back": (
        {"key-1": 36},
        known(90),
        [
            event("charge.dispute.funds_withdrawn", dispute()),
            event("charge.dispute.funds_reinstated", dispute(status="lost")),
            event("charge.dispute.closed", dispute(status="lost", balance_transactions=moved(-100, 60))),
        ],
    ),
    # Before API version 2025-03-31 what a capture releases comes as a refund, re_1; re_40 is one, and as much.
    "a charge that is captured in part, and refunded": (
        {"key-1": 36},
        captured,
        [
            event("charge.captured", charge(amount_captured=60, amount_refunded=40)),
            event("charge.refunded", charge(amount_captured=60, amount_refunded=80)),
            *refund_events(1, 40, "succeeded"),
            *refund_events(40, 40, "succeeded"),
        ],
    ),
    "a refund and the transfers it is of": (
        {"key-1": 18, "key-2": 2},
        known(90, 10),
        [
            event("transfer.created", stripe_transfer("tr_1", 90)),
            event("transfer.created", stripe_transfer("tr_2", 10)),
            *refund_events(1, 20, "succeeded"),
            event("charge.captured", charge()),
        ],
    ),
}


def settled(db: Database) -> State:
    """The state without what only says when, and by how many requests."""
    tables = {
        "stripe_refunds": "refund_id, charge_id, amount, status, ended_at is null as stands",
        "stripe_disputes": "dispute_id, amount, remaining, status, funds_withdrawn, funds_reinstated",
        "charges": "charge_id, amount, payment_intent, transfer_group, refunded",
    }
    found = {table: rows(db, f"select {each} from marketplace.{table} order by 1") for table, each in tables.items()}
    found["withdrawn"] = rows(
        db,
        "select distinct split_part(reversal_request_id, '+', 1) as id from marketplace.reversal_requests"
        " where withdrawn_at is not null and withdrawn_reason not like 'asked again%' order by 1",
    )
    return {"asked": asked(db), "events": states(db), **found}


def ends(db: Database, events: Sequence[Event]) -> Iterator[tuple[list[str], State]]:
    """The order and the state at the end of every order of these events."""
    if not events:
        yield [], settled(db)
    for n, given in enumerate(events):
        with db.transaction(force_rollback=True):
            ingest(db, given)
            assert ingest(db, given)["result"] in ("already_known", "kept")
            for order, state in ends(db, [*events[:n], *events[n + 1 :]]):
                yield [given["type"], *order], state


@pytest.mark.parametrize("name", SETS)
def test_every_order_of_a_set_of_events_ends_the_same(rolled_back_db: Database, name: str) -> None:
    expected, prepare, events = SETS[name]
    by_events(rolled_back_db)
    prepare(rolled_back_db)

    _, first = next(ends(rolled_back_db, events))
    assert first["asked"] == expected
    assert set(states(rolled_back_db).values()) == set()  # rolled back
    for order, state in ends(rolled_back_db, events):
        assert state == first, order


def test_a_transfer_recorded_anywhere_among_the_events_ends_the_same(rolled_back_db: Database) -> None:
    by_events(rolled_back_db)
    events = [*refund_events(1, 50, "succeeded"), *refund_events(2, 10, "succeeded", "failed")]
    for position in range(len(events) + 1):
        with rolled_back_db.transaction(force_rollback=True):
            for n, given in enumerate([*events, {}]):
                if n == position:
                    known(90, 10)(rolled_back_db)
                if given:
                    ingest(rolled_back_db, given)
            call(rolled_back_db, "retry_events")
            assert (position, asked(rolled_back_db)) == (position, {"key-1": 45, "key-2": 5})
            assert set(states(rolled_back_db).values()) == {"acted"}
