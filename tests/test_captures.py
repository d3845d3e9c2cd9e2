"""db/functions/note_capture.sql, causes.sql: charges that are captured in part, or in several parts.

Of a charge of 100 60 are captured and 54 paid to the seller. Before API version 2025-03-31 the other 40 come as a
refund made with the capture (at 1234567890), though nothing went back to the buyer.
"""

import itertools
from typing import Any

import pytest

from tests.support.databases import Database, row
from tests.support.events import (
    Event,
    asked,
    by_events,
    charge,
    event,
    ingest,
    is_withdrawn,
    kept,
    refund,
    refunded,
    result,
    states,
)
from tests.support.transfers import call, record_transfer, request_parts

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    by_events(rolled_back_db)
    return rolled_back_db


def paid(db: Database, **changes: Any) -> None:
    values: dict[str, Any] = {"p_order_id": "order-1", "p_amount": 54, "p_source_charge": "ch_1"}
    record_transfer(db, 1, **{**values, **changes})


def told(what: str, captured: int = 60, refunded: int = 0, **changes: Any) -> Event:
    return event(f"charge.{what}", charge(amount_captured=captured, amount_refunded=refunded), **changes)


def test_what_was_never_captured_is_no_refund_of_the_sellers(db: Database) -> None:
    paid(db)
    assert result(db, told("captured", refunded=40)) == "acted"

    came = refunded(db, "re_1", 40)
    assert came["result"] == "acted"
    assert came["detail"].startswith("refund re_1 is of what was never captured of charge ch_1")
    assert (asked(db), is_withdrawn(db, "re_1")) == ({}, True)

    # One of the buyer's that is as much, some time later; and another. It is all of what was captured then.
    assert refunded(db, "re_60", 40)["result"] == "acted"
    assert asked(db) == {"key-1": 36}
    assert refunded(db, "re_61", 20)["result"] == "acted"
    assert asked(db) == {"key-1": 54}


def test_since_the_capture_makes_no_refund_of_it_one_that_is_as_much_is_the_buyers(db: Database) -> None:
    paid(db)
    for said in (told("captured"), told("refunded", refunded=39)):
        with db.transaction(force_rollback=True):
            assert result(db, said) == "acted"
            assert refunded(db, "re_1", 40)["result"] == "acted"
            assert asked(db) == {"key-1": 36}


def test_a_refund_that_may_be_either_is_kept_until_the_capture_or_a_person_says_which(db: Database) -> None:
    paid(db)
    assert result(db, told("refunded", refunded=40)) == "acted"
    came = refunded(db, "re_1", 40)
    assert (came["result"], came["detail"].startswith("ST010: refund re_1 is of the 40 usd")) == ("kept", True)
    typed = kept(db, came["event_id"])["next_step"].partition("; or")[0]
    assert refunded(db, "re_2", 15)["result"] == "acted"
    assert asked(db) == {"key-1": 14}  # 13.5; the one that is kept does not count

    with db.transaction(force_rollback=True):
        assert result(db, told("captured", refunded=40)) == "acted"
        assert set(states(db).values()) == {"acted"}
        assert (asked(db), is_withdrawn(db, "re_1")) == ({"key-1": 14}, True)
    with db.transaction(force_rollback=True):
        db.execute(typed.encode())
        assert call(db, "retry_events")[0]["result"] == "acted"
        assert asked(db) == {"key-1": 14}
    with db.transaction(force_rollback=True):
        request_parts(db, {"key-1": 36}, "re_1")
        assert call(db, "retry_events")[0]["result"] == "acted"
        assert asked(db) == {"key-1": 50}


def test_what_was_asked_before_the_capture_was_told_is_given_back(db: Database) -> None:
    paid(db, p_charge_amount=60)
    assert refunded(db, "re_1", 40)["result"] == "acted"
    assert asked(db) == {"key-1": 36}
    assert result(db, told("captured", refunded=40)) == "acted"
    assert (asked(db), is_withdrawn(db, "re_1")) == ({}, True)


def test_a_charge_that_is_captured_in_several_parts_is_what_was_captured_by_now(db: Database) -> None:
    paid(db)
    events = [told("captured", captured=part, created=1234567890 + part) for part in (30, 60, 90)]
    for order in (events, events[::-1], [events[1], events[0], events[2]]):
        with db.transaction(force_rollback=True):
            assert [result(db, each) for each in order] == ["acted"] * 3
            found = row(db, "select * from marketplace.charges")
            assert (found["amount"], found["captured"], found["uncaptured"]) == (90, 90, 10)
            assert refunded(db, "re_1", 45)["result"] == "acted"
            assert asked(db) == {"key-1": 27}


def test_a_charge_that_is_refunded_between_its_captures_is_left_to_a_person(db: Database) -> None:
    paid(db)
    assert result(db, told("captured", captured=30)) == "acted"
    refunded(db, "re_1", 15)
    assert asked(db) == {"key-1": 27}
    came = ingest(db, told("captured", captured=60))
    assert (came["result"], came["detail"][:6]) == ("kept", "ST003:")
    assert "captured in parts, 30 and now 60" in came["detail"]
    assert "withdraw_reversal_request()" in kept(db, came["event_id"])["next_step"]
    assert asked(db) == {"key-1": 27}


def test_what_the_app_said_of_a_charge_is_contradicted_by_its_capture_as_by_anything(db: Database) -> None:
    paid(db, p_charge_amount=100)
    came = ingest(db, told("captured"))
    assert (came["result"], came["detail"][:6]) == ("kept", "ST003:")


def test_a_canceled_authorization_takes_the_whole_of_what_was_paid_from_it(db: Database) -> None:
    paid(db)
    canceled = charge(captured=False, amount_captured=0, amount_refunded=100, refunded=True)
    assert result(db, event("charge.refunded", canceled)) == "acted"
    assert result(db, event("refund.created", refund("re_1", 100))) == "acted"
    assert asked(db) == {"key-1": 54}


def test_a_refund_between_two_captures_is_the_buyers_also_where_it_is_as_much_as_is_left(db: Database) -> None:
    paid(db)
    for captured, later, back in ((30, 0, 0), (80, 7200, 20)):
        said = told("captured", captured=captured, refunded=back, created=1234567890 + later)
        assert result(db, said) == "acted"
    # Stripe has told of it after both.
    assert refunded(db, "re_3600", 20)["result"] == "acted"
    assert (asked(db), is_withdrawn(db, "re_3600")) == ({"key-1": 14}, False)  # 13.5


def test_of_two_refunds_made_with_the_capture_and_of_what_it_released_one_is_the_buyers(db: Database) -> None:
    events = (
        told("captured", captured=50, refunded=50),
        *(event("refund.created", refund(f"re_{n}", 50)) for n in (0, 5)),
    )
    for order in itertools.permutations(events):
        with db.transaction(force_rollback=True):
            paid(db, p_amount=45, p_charge_amount=50)
            for given in (*order, *order):
                ingest(db, given)
            assert set(states(db).values()) == {"acted"}
            assert asked(db) == {"key-1": 45}


def test_what_a_person_says_to_be_a_refund_counts_for_the_next_one_whichever_is_first(db: Database) -> None:
    paid(db)
    assert result(db, told("refunded", refunded=40)) == "acted"
    assert refunded(db, "re_1", 40)["result"] == "kept"
    for is_asked_first in (True, False):
        with db.transaction(force_rollback=True):
            if not is_asked_first:
                refunded(db, "re_2", 20)
                assert asked(db) == {"key-1": 18}
            request_parts(db, {"key-1": 36}, "re_1")
            if is_asked_first:
                refunded(db, "re_2", 20)
            assert asked(db) == {"key-1": 54}
            assert {each["result"] for each in call(db, "retry_events")} <= {"acted"}
            assert asked(db) == {"key-1": 54}


def test_what_was_asked_is_not_let_go_because_it_may_be_a_release(db: Database) -> None:
    paid(db, p_charge_amount=60)
    assert refunded(db, "re_1", 40)["result"] == "acted"
    assert result(db, told("refunded", refunded=40)) == "acted"
    assert refunded(db, "re_2", 10)["result"] == "acted"
    assert (asked(db), is_withdrawn(db, "re_1")) == ({"key-1": 45}, False)
