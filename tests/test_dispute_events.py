"""db/functions/act_on_dispute.sql, note_dispute.sql: disputes, whose funds Stripe takes and may give back."""

from typing import Any

import pytest

from tests.support.databases import Database, row, value
from tests.support.events import (
    asked,
    asked_for,
    by_events,
    dispute,
    event,
    failed,
    ingest,
    is_withdrawn,
    kept,
    moved,
    refunded,
    requests,
    result,
)
from tests.support.transfers import call, create_transfer, record_transfer, request_parts, transfer

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def paid(db: Database, **changes: Any) -> int:
    """A transfer of 90 from a charge of 100; its id."""
    values: dict[str, Any] = {"p_amount": 90, "p_source_charge": "ch_1", "p_charge_amount": 100}
    return int(record_transfer(db, **{**values, **changes})["id"])


def told(db: Database, what: str, dispute_id: str = "dp_1", **changes: Any) -> str:
    return result(db, event(f"charge.dispute.{what}", dispute(dispute_id, **changes)))


def test_nothing_is_asked_before_the_funds_are_withdrawn(db: Database) -> None:
    root = paid(db)

    assert told(db, "created") == "acted"
    assert told(db, "updated", status="under_review") == "acted"
    assert transfer(db, root)["status"] == "completed"

    assert told(db, "funds_withdrawn") == "acted"
    assert transfer(db, root)["status"] == "reversal_pending"
    found = row(db, "select * from marketplace.reversal_requests")
    assert (found["reversal_request_id"], found["reason"], found["asked_by"]) == ("dp_1", "dispute", "events")
    assert value(db, "select status from marketplace.stripe_disputes") == "under_review"


def test_a_dispute_of_a_part_takes_its_share(db: Database) -> None:
    paid(db)
    assert told(db, "funds_withdrawn", "du_1", amount=20) == "acted"
    assert asked_for(db, "du_1") == {"key-1": (18, 18, 0)}


@pytest.mark.parametrize(
    ("what", "status", "amounts", "currency"),
    [
        ("funds_reinstated", "under_review", [-100, 100], "usd"),
        ("funds_reinstated", "lost", [-100, 60, 40], "usd"),
        ("funds_reinstated", "won", [], "usd"),
        ("funds_reinstated", "won", [-93, 91], "eur"),  # of the platform's balance; won is all of it
        ("closed", "won", [-100], "usd"),
    ],
)
def test_a_dispute_that_is_won_or_whose_funds_come_back_is_withdrawn_whenever_it_is_told(
    db: Database, what: str, status: str, amounts: list[int], currency: str
) -> None:
    back: dict[str, Any] = {"status": status, "balance_transactions": moved(*amounts, currency=currency)}
    paid(db)
    told(db, "funds_withdrawn")
    assert told(db, what, **back) == "acted"
    assert is_withdrawn(db, "dp_1")
    assert told(db, "funds_withdrawn") == "acted"
    assert asked(db) == {}

    assert told(db, what, "dp_2", **back) == "acted"
    assert told(db, "funds_withdrawn", "dp_2") == "acted"
    assert is_withdrawn(db, "dp_2")
    assert asked(db) == {}


def test_a_dispute_that_is_lost_changes_nothing(db: Database) -> None:
    paid(db)
    told(db, "funds_withdrawn")
    assert told(db, "closed", status="lost") == "acted"
    assert asked(db) == {"key-1": 90}


@pytest.mark.parametrize("by", ["app", "events"])
def test_a_refund_and_a_dispute_of_the_rest_take_the_whole_and_no_more(db: Database, by: str) -> None:
    if by == "events":
        by_events(db)
    paid(db)
    refunded(db, "re_1", 50)
    if by == "app":
        request_parts(db, {"key-1": 45}, "own-1")
    told(db, "funds_withdrawn", amount=50)

    assert asked_for(db, "dp_1") == {"key-1": (45, 45, 0)}
    assert asked(db) == {"key-1": 90}
    told(db, "funds_withdrawn", "dp_2", amount=50)
    assert asked(db) == {"key-1": 90}
    assert "dp_2" in requests(db)


def test_where_the_app_decides_a_dispute_leaves_what_the_app_left_to_the_seller(db: Database) -> None:
    paid(db)
    refunded(db, "re_1", 50)  # the platform's loss: the app asks for nothing
    told(db, "funds_withdrawn", amount=50)
    create_transfer(db, 2, p_order_id="order-1", p_amount=10, p_source_charge="ch_1")

    assert asked(db) == {"key-1": 45, "key-2": 5}


def test_a_failed_refund_beside_a_dispute_is_withdrawn_alone(db: Database) -> None:
    by_events(db)
    paid(db)
    refunded(db, "re_1", 50)
    told(db, "funds_withdrawn", amount=50)
    failed(db, "re_1", 50)
    assert asked(db) == {"key-1": 45}
    assert requests(db) == ["dp_1"]


def test_a_dispute_that_cannot_be_placed_is_kept(db: Database) -> None:
    came = ingest(db, event("charge.dispute.funds_withdrawn", dispute()))
    assert came["result"] == "kept"
    assert kept(db, came["event_id"])["next_step"].startswith("select * from marketplace.note_charge(")

    paid(db, p_currency="eur")
    assert asked(db) == {"key-1": 90}  # the charge's currency is not the transfer's


def test_a_dispute_in_another_currency_than_its_charge_is_left_to_a_person(db: Database) -> None:
    paid(db)
    db.execute("select from marketplace.note_charge(p_charge_id => 'ch_1', p_currency => 'eur')")
    came = ingest(db, event("charge.dispute.funds_withdrawn", dispute()))
    assert came["result"] == "kept"
    assert "in another currency" in came["detail"]
    for wrong in ({"amount": None}, {"status": 5}, {"id": None}):
        assert result(db, event("charge.dispute.created", {**dispute("dp_2"), **wrong})) == "kept"


@pytest.mark.parametrize("currency", [None, "eur"])
def test_what_went_back_in_two_currencies_is_not_added_up_whatever_looks_at_the_charge(
    db: Database, currency: str | None
) -> None:
    by_events(db)
    paid(db)
    if currency:
        call(db, "note_charge", p_charge_id="ch_1", p_currency=currency)
    refunded(db, "re_1", 50, currency="eur")
    came = ingest(db, event("charge.dispute.funds_withdrawn", dispute(amount=40)))
    assert (came["result"], "in another currency" in came["detail"]) == ("kept", True)
    create_transfer(db, 2, p_order_id="order-1", p_amount=10, p_source_charge="ch_1")
    assert refunded(db, "re_2", 10, currency="eur")["result"] == "kept"
    assert asked(db) == {"key-1": 45}

    # A person says what it comes to; then all the rest is asked for.
    assert "request_reversal(p_order_id, 'dp_1'" in kept(db, came["event_id"])["next_step"]
    request_parts(db, {"key-1": 30}, "dp_1", p_reason="dispute")
    assert {each["result"] for each in call(db, "retry_events")} == {"acted"}
    assert asked(db) == {"key-1": 84, "key-2": 6}
