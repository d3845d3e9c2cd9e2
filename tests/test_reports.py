"""db/functions/reports.sql: reports whose lease is not the row's any more, and what they prove."""

import pytest

from tests.support.databases import Database
from tests.support.look_ups import pass_time, seen
from tests.support.transfers import (
    attempts,
    claim,
    claim_again,
    claimed_call,
    lapse_lease,
    make_due,
    record_one,
    refusal,
    report,
    reversal_object,
    success,
    timeout,
    transfer,
)
from tests.support.withdrawals import born_of

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def test_proof_that_comes_late_is_looked_up_before_it_is_believed(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    record_one(db, refusal(looked, 429, "rate_limit"))
    pass_time(db, leased["id"], "-1 h")  # not due for an hour

    recorded = record_one(db, success(leased))

    row = transfer(db, leased["id"])
    assert (recorded["result"], recorded["verdict"], row["status"]) == ("stale", "succeeded", "reversal_pending")
    assert (row["call_unknown"], row["stripe_reversal_id"]) == (True, None)
    assert claim(db)[0]["action"] == "look_up_reversals"


def test_proof_brings_back_a_doubt_that_a_look_had_taken_away(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    record_one(db, report(claim_again(db, leased["id"]), http_status=500))
    pass_time(db, leased["id"], "2 h")
    record_one(db, seen(claim_again(db, leased["id"])))
    assert transfer(db, leased["id"])["call_unknown"] is False

    record_one(db, success(leased))

    assert transfer(db, leased["id"])["call_unknown"] is True
    assert claim(db)[0]["action"] == "look_up_reversals"


def test_proof_for_a_row_that_another_worker_has_changes_nothing(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    claim_again(db, leased["id"])
    before = transfer(db, leased["id"])

    assert record_one(db, success(leased))["result"] == "stale"
    assert transfer(db, leased["id"]) == before


def test_no_proof_changes_nothing(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    before = transfer(db, leased["id"])

    for late in (refusal(leased), refusal(leased, 404, "resource_missing"), refusal(leased, 401)):
        assert record_one(db, late)["result"] == "stale"
    assert transfer(db, leased["id"]) == before


def test_a_second_reversal_of_a_reversed_row_is_said_aloud(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    record_one(db, timeout(claim_again(db, leased["id"])))
    looked = claim_again(db, leased["id"])
    found = reversal_object(looked | {"metadata": {}}, "trr_a") | {
        "metadata": transfer(db, leased["id"])["call_params"]["metadata"]
    }
    assert record_one(db, seen(looked, found))["status"] == "reversed"

    recorded = record_one(db, success(leased, "trr_b"))

    assert (recorded["result"], recorded["verdict"]) == ("stale", "moved_twice")
    assert attempts(db, leased["id"])[-1]["disposition"] == "late"
    assert transfer(db, leased["id"])["stripe_reversal_id"] == "trr_a"


def test_the_same_reversal_reported_late_is_no_second_one(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    found = reversal_object(leased, "trr_a")
    assert record_one(db, seen(looked, found))["status"] == "reversed"

    assert record_one(db, success(leased, "trr_a"))["verdict"] == "succeeded"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_failed_reversal_is_no_second_one(db: Database, status: str) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, reversal_object(leased, "trr_a")))

    assert record_one(db, success(leased, "trr_b", status=status))["verdict"] != "moved_twice"


def test_another_rows_reversal_is_no_second_one(db: Database) -> None:
    other = claimed_call(db, 2)
    record_one(db, success(other, "trr_b"))
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, reversal_object(leased, "trr_a")))

    assert record_one(db, success(leased, "trr_b"))["verdict"] == "mismatch"


def test_a_success_after_the_row_was_given_up_is_kept_as_late(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    record_one(db, timeout(claim_again(db, leased["id"])))
    pass_time(db, leased["id"], "2 h")
    looked = claim_again(db, leased["id"])
    record_one(db, refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'"))

    recorded = record_one(db, success(leased))

    assert (recorded["verdict"], recorded["status"]) == ("succeeded", "permanently_failed")
    assert attempts(db, leased["id"])[-1]["disposition"] == "late"


def test_a_late_reversal_of_another_amount_than_the_row_asks_for_is_success_too(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    record_one(db, timeout(claim_again(db, leased["id"])))
    pass_time(db, leased["id"], "2 h")
    looked = claim_again(db, leased["id"])
    record_one(db, refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'"))

    assert record_one(db, success(leased, amount=999))["verdict"] == "mismatch"
    assert born_of(db, "successor_of")


def test_a_stale_one_of_another_amount_is_looked_up(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked))
    (again,) = claim(db)
    record_one(db, refusal(again))

    recorded = record_one(db, success(leased, amount=999))

    assert (recorded["result"], transfer(db, leased["id"])["call_unknown"]) == ("stale", True)
    assert claim(db)[0]["action"] == "look_up_reversals"


def test_a_look_up_reported_by_two_workers_is_applied_once(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    looked = claim_again(db, leased["id"])
    outcome = seen(looked)
    assert record_one(db, outcome)["result"] == "applied"
    assert record_one(db, outcome)["result"] == "already_recorded"
    assert record_one(db, report(looked, http_status=500))["result"] == "stale"


def test_a_row_that_is_made_due_by_hand_while_it_is_unknown_is_looked_up(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    make_due(db, leased["id"])
    assert claim(db)[0]["action"] == "look_up_reversals"
