"""db/functions/take_back.sql: what a request for its money does to one transfer, whatever state it is in."""

import pytest

from tests.support.databases import Database, value
from tests.support.transfers import (
    claim,
    create_transfer,
    record_transfer,
    refunded_transfer,
    request_lines,
    request_reversal,
    status_log,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def test_a_reversal_starts_due_and_with_a_clean_record(db: Database) -> None:
    record_transfer(db)
    db.execute(
        "update marketplace.seller_transfers set retry_count = 3, streak = 2, streak_verdict = 'unknown', "
        "streak_since = clock_timestamp(), waiting_since = clock_timestamp(), "
        "failure_code = 'old', failure_message = 'old'"
    )

    (taken,) = request_reversal(db)

    now = value(db, "select clock_timestamp()")
    assert taken["next_retry_at"] <= now
    assert taken["call_minted_at"] == taken["next_retry_at"]
    record = ("streak", "waiting", "failure", "retry", "call", "lease")
    assert {name: taken[name] for name in taken if name.startswith(record)} == {
        "retry_count": 0,
        "streak": 0,
        "streak_verdict": None,
        "streak_since": None,
        "waiting_since": None,
        "failure_code": None,
        "failure_message": None,
        "lease_token": None,
        "leased_at": None,
        "lease_expires_at": None,
        "leased_by": None,
        "lease_action": None,
        "call_part": 1,
        "call_generation": 1,
        "call_params": None,
        "call_minted_at": taken["call_minted_at"],
        "call_last_sent_at": None,
        "call_absent_at": None,
        "call_replayed": False,
        "call_unknown": False,
    }


def test_a_transfer_recorded_after_the_refund_is_taken_back_at_its_birth(db: Database) -> None:
    refunded_transfer(db)

    late = record_transfer(db, 2, p_order_id="order-1", p_amount=250)

    assert (late["status"], late["reversal_request_id"]) == ("reversal_pending", "re_1")
    assert request_lines(db) == [("key-1", 1000, 1000, 0), ("key-2", 250, 250, 0)]
    log = status_log(db, late["id"])
    assert [entry["to_status"] for entry in log] == ["completed", "reversal_pending"]
    assert "re_1" in log[1]["reason"]
    assert len(claim(db)) == 2


def test_a_transfer_created_after_the_refund_is_never_sent(db: Database) -> None:
    refunded_transfer(db)

    late = create_transfer(db, 2, p_order_id="order-1")

    assert (late["status"], late["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    assert request_lines(db)[1] == ("key-2", 1000, 1000, 0)


def test_the_first_of_several_requests_takes_what_is_recorded_later(db: Database) -> None:
    refunded_transfer(db)
    request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute")

    late = record_transfer(db, 2, p_order_id="order-1")

    assert late["reversal_request_id"] == "re_1"


@pytest.mark.parametrize("refused_once", [False, True])
def test_a_transfer_that_was_never_sent_is_given_up_unpaid(db: Database, refused_once: bool) -> None:
    created = create_transfer(db)
    if refused_once:
        db.execute("update marketplace.seller_transfers set status = 'failed'")

    (taken,) = request_reversal(db)

    assert (taken["status"], taken["failure_code"], taken["next_retry_at"], taken["completed_at"]) == (
        "permanently_failed",
        "refunded_before_transfer",
        None,
        None,
    )
    steps = [(entry["from_status"], entry["to_status"]) for entry in status_log(db, created["id"])]
    assert steps == [(None, "pending"), ("pending", "failed"), ("failed", "permanently_failed")]
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]


@pytest.mark.parametrize(
    "sign",
    ["call_unknown = true", """
        lease_token = gen_random_uuid(), leased_at = clock_timestamp(), leased_by = 'worker-1', lease_action = 'send',
        lease_expires_at = clock_timestamp()"""],
    ids=["unknown", "leased"],
)  # fmt: skip
def test_a_transfer_that_may_be_under_way_is_left_alone_and_the_request_remembers(db: Database, sign: str) -> None:
    created = create_transfer(db)
    db.execute(f"update marketplace.seller_transfers set {sign}".encode())
    before = transfer(db, created["id"])

    assert request_reversal(db) == []

    assert transfer(db, created["id"]) == before
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]


def test_money_that_was_given_up_at_the_seller_is_shown_as_unmet(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    request_reversal(db)
    assert claim(db) == []  # no Stripe id: given up at the claim

    assert request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute") == []

    assert request_lines(db, "dp_1") == [("key-1", 1000, 0, 1000)]


def test_a_second_request_takes_nothing_twice(db: Database) -> None:
    taken = refunded_transfer(db)

    assert request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute") == []

    assert transfer(db, taken["id"]) == taken
    assert request_lines(db, "dp_1") == []


def test_the_callers_own_reason_is_put_back(db: Database) -> None:
    record_transfer(db)
    db.execute("set marketplace.reason = 'ticket 42'")

    (taken,) = request_reversal(db)

    assert value(db, "select current_setting('marketplace.reason')") == "ticket 42"
    assert "refund re_1 requested" in status_log(db, taken["id"])[-1]["reason"]


def test_the_log_keeps_the_callers_own_reason(db: Database) -> None:
    record_transfer(db)
    with db.transaction():
        db.execute("set local marketplace.reason = 'ticket 42'")
        (taken,) = request_reversal(db)
        assert value(db, "select current_setting('marketplace.reason')") == "ticket 42"

    assert "ticket 42" in status_log(db, taken["id"])[-1]["reason"]
