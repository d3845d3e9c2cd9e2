"""db/functions/open_reversals.sql: why reversals are not done yet, in words a person understands."""

from collections.abc import Callable

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.transfers import (
    Facts,
    call,
    claim_again,
    claimed_call,
    lapse_lease,
    record_one,
    refunded_transfer,
    refusal,
    reversal_object,
    success,
    timeout,
)
from tests.support.withdrawals import withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def reasons(db: Database) -> dict[str, tuple[bool, int]]:
    return {found["reason"]: (found["needs_a_person"], found["transfers"]) for found in call(db, "read_open_reversals")}


def test_no_open_reversal_gives_no_row(db: Database) -> None:
    assert call(db, "read_open_reversals") == []


ANSWERS: dict[str, tuple[bool, Callable[[DictRow], Facts]]] = {
    "unknown": (False, timeout),
    "accepted": (False, lambda c: success(c, status="pending")),
    "insufficient_balance": (False, lambda c: refusal(c, 400, "balance_insufficient")),
    "throttled": (False, lambda c: refusal(c, 429, "rate_limit")),
    "transient": (False, lambda c: refusal(c, 400)),
    "already_reversed": (False, lambda c: refusal(c, 400, None, "The transfer tr_1 is already fully reversed.")),
    "configuration": (False, lambda c: refusal(c, 401)),
    "conflict": (True, lambda c: refusal(c, 400, error_type="idempotency_error")),
    "mismatch": (True, lambda c: success(c, amount=1)),
}


@pytest.mark.parametrize("reason", ANSWERS)
def test_an_open_row_has_its_reason(db: Database, reason: str) -> None:
    needs_a_person, answer = ANSWERS[reason]
    record_one(db, answer(claimed_call(db)))

    (found,) = call(db, "read_open_reversals")

    assert (found["reason"], found["needs_a_person"], found["transfers"]) == (reason, needs_a_person, 1)
    assert found["oldest_since"] is not None
    assert found["meaning"] != "Waits for a person: see parked_reason."


def test_a_row_that_was_never_called_for_is_new(db: Database) -> None:
    refunded_transfer(db)
    assert reasons(db) == {"new": (False, 1)}


def test_rows_are_counted_per_reason_and_those_that_need_a_person_come_first(db: Database) -> None:
    for n in (1, 2):
        record_one(db, timeout(claimed_call(db, n)))
    record_one(db, success(claimed_call(db, 3), amount=1))

    assert list(reasons(db).items()) == [("mismatch", (True, 1)), ("unknown", (False, 2))]


def test_money_that_moved_twice_is_there_whether_the_row_is_open_or_done(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, ours(db, looked, "trr_a"), ours(db, looked, "trr_b"), amount=2000))
    assert reasons(db) == {"moved_twice": (True, 1)}


def test_a_second_reversal_of_a_row_that_was_done_is_there(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, reversal_object(leased, "trr_a")))
    assert reasons(db) == {}

    record_one(db, success(leased, "trr_b"))

    assert reasons(db) == {"moved_twice": (True, 1)}


def test_a_success_after_another_row_took_over_is_there_and_its_attempt_names_the_reversal(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    record_one(db, timeout(claim_again(db, leased["id"])))
    pass_time(db, leased["id"], "2 h")
    looked = claim_again(db, leased["id"])
    record_one(db, refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'"))
    withdraw(db)
    record_one(db, success(leased, "trr_late"))

    assert reasons(db) == {"late_success": (True, 1)}
    (attempt,) = db.execute(
        "select transfer_id, stripe_object_id from marketplace.transfer_attempts where verdict = 'late_success'"
    ).fetchall()
    assert (attempt["transfer_id"], attempt["stripe_object_id"]) == (leased["id"], "trr_late")


def test_a_pending_reversal_made_elsewhere_is_told_in_the_rows_own_words(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased))
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, foreign(looked, "trr_f", 1000, status="pending")))

    (row,) = db.execute("select failure_message from marketplace.seller_transfers").fetchall()
    assert row["failure_message"] == "Somebody else's reversal of this transfer is under way at Stripe: trr_f (1000)"
