"""db/functions/open_transfers.sql: why transfers are not sent yet, in words a person understands."""

from collections.abc import Callable

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database
from tests.support.transfers import (
    Facts,
    call,
    claim_send_again,
    claimed_send,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    sent,
    timeout,
    transfer_object,
    transfers_found,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


ANSWERS: dict[str, tuple[bool, Callable[[DictRow], Facts]]] = {
    "unknown": (False, timeout),
    "insufficient_balance": (False, lambda c: refusal(c, 400, "balance_insufficient")),
    "throttled": (False, lambda c: refusal(c, 429, "rate_limit")),
    "transient": (False, lambda c: refusal(c, 400)),
    "configuration": (False, lambda c: refusal(c, 401)),
    "conflict": (True, lambda c: refusal(c, 400, error_type="idempotency_error")),
    "mismatch": (True, lambda c: sent(c, amount=1)),
}


@pytest.mark.parametrize("reason", ANSWERS)
def test_an_open_row_has_its_reason(db: Database, reason: str) -> None:
    needs_a_person, answer = ANSWERS[reason]
    record_one(db, answer(claimed_send(db)))

    (found,) = call(db, "read_open_transfers")

    assert (found["reason"], found["needs_a_person"], found["transfers"]) == (reason, needs_a_person, 1)
    assert found["meaning"].endswith(".")
    assert found["oldest_since"] is not None


def test_what_is_paid_or_on_its_way_back_is_not_here(db: Database) -> None:
    record_transfer(db, 1)
    refunded_transfer(db, 2)
    assert call(db, "read_open_transfers") == []
    create_transfer(db, 3)
    assert [(found["reason"], found["transfers"]) for found in call(db, "read_open_transfers")] == [("new", 1)]
    assert [found["reason"] for found in call(db, "read_open_reversals")] == ["new"]


def test_two_transfers_for_one_are_shown_whether_found_or_proven(db: Database) -> None:
    first = claimed_send(db)
    lapse_lease(db, first["id"])
    record_one(db, transfers_found(claim_send_again(db, first["id"])))
    record_one(db, sent(claim_send_again(db, first["id"])))
    record_one(db, sent(first, "tr_second"))
    second = claimed_send(db, 2)
    record_one(db, timeout(second))
    looked = claim_send_again(db, second["id"])
    record_one(db, transfers_found(looked, *(transfer_object(looked, name) for name in ("tr_a", "tr_b"))))

    found = [(each["reason"], each["needs_a_person"], each["transfers"]) for each in call(db, "read_open_transfers")]

    assert found == [("moved_twice", True, 1), ("moved_twice", True, 1)]
    assert call(db, "read_open_reversals") == []
