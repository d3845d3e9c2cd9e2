"""db/functions/mark_paid.sql: a person says that what looks like a transfer at Stripe is its payment."""

from typing import Any

import psycopg
import pytest

from tests.support.databases import Database, rows
from tests.support.events import event, ingest
from tests.support.look_ups import pass_time
from tests.support.transfers import (
    Facts,
    at_commit,
    call,
    claim,
    claim_send_again,
    claim_sends,
    claimed_send,
    contents,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    request_lines,
    request_reversal,
    status_log,
    timeout,
    transfer,
    transfer_object,
    transfers_found,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def twin(db: Database, passed: str = "2 hours", **changes: Any) -> int:
    """A row whose look-up, so long after its request, found what somebody made by hand."""
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], passed)
    find(db, leased["id"], **changes)
    return int(leased["id"])


def find(db: Database, transfer_id: int, **changes: Any) -> None:
    looked = claim_send_again(db, transfer_id)
    by_hand: Facts = {"metadata": {}, "transfer_group": "order-1", **changes}
    record_one(db, transfers_found(looked, transfer_object(looked, "tr_hand", **by_hand)))


def mark(db: Database, transfer_id: int, paid_by: str = "tr_hand") -> dict[str, Any]:
    (row,) = call(db, "mark_paid", p_id=transfer_id, p_stripe_transfer_id=paid_by, p_reason="ticket 42")
    return row


def refused(db: Database, *arguments: Any) -> psycopg.errors.Diagnostic:
    """Refused, in words, and nothing has changed."""
    before = contents(db)
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        mark(db, *arguments)
    assert caught.value.diag.message_hint
    assert contents(db) == before
    return caught.value.diag


def test_what_somebody_made_by_hand_pays_the_row_once_a_person_says_so(db: Database) -> None:
    row_id = twin(db)
    (problem,) = rows(db, "select * from marketplace.needs_attention_full")
    assert f"mark_paid(p_id => {row_id}, p_stripe_transfer_id => 'tr_…'" in problem["next_step"]

    paid = mark(db, row_id)

    at_commit(db)
    assert (paid["status"], paid["stripe_transfer_id"], paid["parked_reason"]) == ("completed", "tr_hand", None)
    assert paid["completed_at"] is not None
    assert status_log(db, row_id)[-1]["reason"] == "marked paid by postgres, by tr_hand: ticket 42"
    assert (claim_sends(db), rows(db, "select from marketplace.needs_attention")) == ([], [])


def test_a_refund_that_waits_takes_it_back(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    request_reversal(db, p_amount=300)
    pass_time(db, leased["id"], "2 hours")
    find(db, leased["id"])
    assert request_lines(db) == [("key-1", 300, 0, 300)]

    mark(db, leased["id"])

    assert request_lines(db) == [("key-1", 300, 300, 0)]
    assert [(each["stripe_transfer_id"], each["amount"]) for each in claim(db)] == [("tr_hand", 300)]


def test_what_was_told_of_it_before_is_heard_again(db: Database) -> None:
    row_id = twin(db)
    told = {"id": "tr_hand", "object": "transfer", "amount": 1000, "amount_reversed": 1000}
    assert ingest(db, event("transfer.reversed", told))["result"] == "ignored"

    mark(db, row_id)

    assert [each["state"] for each in rows(db, "select state from marketplace.stripe_events")] == ["kept"]


def test_nobody_is_believed_before_it_is_certain_that_no_request_of_ours_can_arrive(db: Database) -> None:
    row_id = twin(db, "1 s")

    diag = refused(db, row_id)

    assert (diag.sqlstate, diag.column_name) == ("ST002", "parked_reason")
    assert f"retry_now(p_id => {row_id}" in str(diag.message_hint)
    assert "is too early" in str(diag.message_hint)


def test_a_row_that_a_worker_looks_up_again_is_not_marked(db: Database) -> None:
    row_id = twin(db)
    call(db, "retry_now", p_id=row_id, p_reason="again")
    assert refused(db, row_id).sqlstate == "ST002"
    claim_sends(db)
    lapse_lease(db, row_id)
    assert refused(db, row_id).sqlstate == "ST002"


def test_only_what_was_found_for_the_row_and_is_of_its_amount_is_taken(db: Database) -> None:
    row_id = twin(db)
    for another in ("tr_other", "tr_han", "tr_handy"):
        diag = refused(db, row_id, another)
        assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_transfer_id")
        assert "tr_hand (1000 usd)" in str(diag.message_hint)


def test_a_transfer_of_another_amount_is_not_taken(db: Database) -> None:
    # Under the row's own mark, and for more than it asks.
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 hours")
    looked = claim_send_again(db, leased["id"])
    record_one(db, transfers_found(looked, transfer_object(looked, "tr_hand", amount=1001)))
    assert refused(db, leased["id"]).sqlstate == "22023"


def test_a_transfer_that_another_row_stands_for_by_now_is_not_taken(db: Database) -> None:
    row_id = twin(db)
    record_transfer(db, 2, p_destination_account="acct_1", p_stripe_transfer_id="tr_hand")
    assert refused(db, row_id).sqlstate == "ST003"

    # It was another payment: this one goes on.
    call(db, "retry_now", p_id=row_id, p_reason="that was for order-2")
    find(db, row_id)
    assert transfer(db, row_id)["parked_reason"] is None
    assert [each["action"] for each in claim_sends(db)] == ["send"]


@pytest.mark.parametrize("status", ["pending", "completed"])
def test_what_does_not_wait_for_that_is_refused(db: Database, status: str) -> None:
    row_id = (create_transfer(db) if status == "pending" else record_transfer(db))["id"]
    diag = refused(db, row_id)
    assert (diag.sqlstate, diag.column_name) == ("ST002", "status")
    assert "record_completed_transfer()" in str(diag.message_hint)
