"""db/functions/retry_now.sql: a person has looked, and the row goes on."""

import psycopg
import pytest

from tests.support.databases import Database
from tests.support.look_ups import pass_time
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claim_send_again,
    claim_sends,
    claimed_call,
    claimed_send,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    sent,
    status_log,
    success,
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


def retry_now(db: Database, transfer_id: int) -> None:
    call(db, "retry_now", p_id=transfer_id, p_reason="ticket 7")


def test_a_row_that_waits_is_due_now_and_the_log_says_by_whom(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, "balance_insufficient"))
    assert claim(db) == []

    retry_now(db, leased["id"])

    assert [each["id"] for each in claim(db)] == [leased["id"]]
    assert status_log(db, leased["id"])[-1]["reason"] == "tried again by postgres: ticket 7"


def test_a_parked_reversal_is_looked_up_before_anything_else(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, amount=1))
    assert claim(db) == []

    retry_now(db, leased["id"])

    assert [each["action"] for each in claim(db)] == ["look_up_reversals"]
    assert "It was parked: mismatch" in status_log(db, leased["id"])[-1]["reason"]


def test_a_key_that_stripe_knows_otherwise_is_never_sent_again(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, refusal(leased, 400, error_type="idempotency_error"))
    retry_now(db, leased["id"])

    for passed in ("1 s", "2 hours"):
        pass_time(db, leased["id"], passed)
        looked = claim_send_again(db, leased["id"])
        assert looked["action"] == "look_up_transfer"
        record_one(db, transfers_found(looked))

    again = claim_send_again(db, leased["id"])
    assert (again["action"], again["idempotency_key"][-2:]) == ("send", ":2")


def test_of_two_transfers_the_one_that_was_not_taken_back_is_the_rows(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    looked = claim_send_again(db, leased["id"])
    first, second = (transfer_object(looked, name) for name in ("tr_a", "tr_b"))
    record_one(db, transfers_found(looked, first, second))
    assert claim_sends(db) == []

    retry_now(db, leased["id"])
    looked = claim_send_again(db, leased["id"])
    record_one(db, transfers_found(looked, {**first, "amount_reversed": 1000}, second))

    paid = transfer(db, leased["id"])
    assert (paid["status"], paid["stripe_transfer_id"]) == ("completed", "tr_b")


def refused(db: Database, transfer_id: int) -> str | None:
    with pytest.raises(psycopg.Error) as error, db.transaction():
        retry_now(db, transfer_id)
    assert error.value.diag.message_hint
    return error.value.sqlstate


def test_what_is_not_open_or_is_being_called_for_is_refused(db: Database) -> None:
    assert refused(db, record_transfer(db, 1)["id"]) == "ST002"
    leased = claimed_call(db, 2)
    assert refused(db, leased["id"]) == "ST002"
    lapse_lease(db, leased["id"])
    retry_now(db, leased["id"])
    record_one(db, timeout(claim_again(db, leased["id"])))
    paid = claimed_send(db, 3)
    record_one(db, sent(paid))
    assert refused(db, paid["id"]) == "ST002"
    retry_now(db, create_transfer(db, 4)["id"])
    retry_now(db, refunded_transfer(db, 5)["id"])
