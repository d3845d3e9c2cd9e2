"""A lease that ran out while its worker's reversal was on its way, and was made: what is reported when.

Money moves once, under one key, and what proves it is found, whatever the order.
"""

from collections.abc import Callable

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database
from tests.support.transfers import (
    Facts,
    attempts,
    claim,
    claimed_call,
    found_reversal,
    lapse_lease,
    look_up_report,
    make_due,
    nothing_found,
    record_one,
    report,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


# What may be reported, by the worker that lost its call or by the one that has the row now.
REPORTS: dict[str, Callable[[DictRow, DictRow], Facts]] = {
    "the lost answer": lambda lost, _: success(lost),
    "seen": lambda lost, taken: look_up_report(taken, found_reversal(lost)),
    "not seen": lambda _, taken: nothing_found(taken),
    "silence": lambda _, taken: timeout(taken),
    # Under the same key Stripe answers with what it made before.
    "made before": lambda lost, taken: report(taken, http_status=200, replayed=True, object=found_reversal(lost)),
}

# Each order: `claim` with the action it gives, or a report with what becomes of it and of the row.
ORDERS = {
    "before anybody else claims": [("the lost answer", "applied, reversed")],
    "after a take-over": [
        ("claim", "look_up_reversals"),
        ("the lost answer", "stale, reversal_pending"),
        ("seen", "applied, reversed"),
        ("claim", "nothing"),
    ],
    "after it was seen": [
        ("claim", "look_up_reversals"),
        ("seen", "applied, reversed"),
        ("the lost answer", "stale, reversed"),
        ("the lost answer", "already_recorded, reversed"),
    ],
    "during a look that came too early": [
        ("claim", "look_up_reversals"),
        ("the lost answer", "stale, reversal_pending"),
        ("not seen", "applied, reversal_pending"),
        ("claim", "reverse"),
        ("made before", "applied, reversed"),
    ],
    "after a look that came too early": [
        ("claim", "look_up_reversals"),
        ("not seen", "applied, reversal_pending"),
        ("the lost answer", "stale, reversal_pending"),
        ("claim", "look_up_reversals"),
        ("seen", "applied, reversed"),
    ],
    "during the next call": [
        ("claim", "look_up_reversals"),
        ("not seen", "applied, reversal_pending"),
        ("claim", "reverse"),
        ("the lost answer", "stale, reversal_pending"),
        ("made before", "applied, reversed"),
    ],
    "after the next call": [
        ("claim", "look_up_reversals"),
        ("not seen", "applied, reversal_pending"),
        ("claim", "reverse"),
        ("made before", "applied, reversed"),
        ("the lost answer", "stale, reversed"),
    ],
    "never, and the next answer is lost as well": [
        ("claim", "look_up_reversals"),
        ("not seen", "applied, reversal_pending"),
        ("claim", "reverse"),
        ("silence", "applied, reversal_pending"),
        ("claim", "look_up_reversals"),
        ("seen", "applied, reversed"),
    ],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
def test_a_lost_answer_moves_no_money_twice_whenever_it_comes(db: Database, order: list[tuple[str, str]]) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    taken: DictRow = {}
    told = []
    for step, _ in order:
        if step == "claim":
            if transfer(db, lost["id"])["status"] == "reversal_pending":
                make_due(db, lost["id"])
            taken = next(iter(claim(db, worker="worker-2")), {"action": "nothing"})
            told.append((step, taken["action"]))
        else:
            recorded = record_one(db, REPORTS[step](lost, taken))
            told.append((step, f"{recorded['result']}, {recorded['status']}"))

    assert told == order
    assert transfer(db, lost["id"])["stripe_reversal_id"] == "trr_1"
    assert {each["idempotency_key"] for each in attempts(db, lost["id"])} == {lost["idempotency_key"]}
