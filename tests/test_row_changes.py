"""db/functions/row_changes.sql: a row that ends, and a row that gets a new key."""

from datetime import timedelta

import pytest

from tests.support.databases import Database
from tests.support.look_ups import foreign, pass_time
from tests.support.transfers import (
    attempts,
    claim_again,
    claim_post,
    claimed_call,
    effect,
    found_reversal,
    look_up_report,
    nothing_found,
    record_one,
    refusal,
    status_log,
    success,
    timeout,
    transfer,
    without_jitter,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def test_success_ends_the_row_with_its_evidence(db: Database) -> None:
    leased = claimed_call(db)

    before, changed, now = effect(db, success(leased))

    assert changed == {
        "status": "reversed",
        "stripe_reversal_id": "trr_1",
        "next_retry_at": None,
        "streak": 1,
        "streak_verdict": "succeeded",
        "streak_since": now,
        "call_last_sent_at": now,
    }
    (attempt,) = attempts(db, leased["id"])
    assert (attempt["verdict"], attempt["disposition"], attempt["http_status"]) == ("succeeded", "applied", 200)
    assert (attempt["idempotency_key"], attempt["worker"]) == (leased["idempotency_key"], "worker-1")
    assert (attempt["stripe_object_id"], attempt["stripe_request_id"]) == ("trr_1", "req_1")
    assert (attempt["started_at"], attempt["lease_token"]) == (before["leased_at"], leased["lease_token"])
    assert status_log(db, leased["id"])[-1]["reason"] == "reported by worker-1"


def test_success_after_unknown_outcomes_leaves_nothing_unknown(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))

    _, changed, _ = effect(db, success(claim_post(db, leased["id"])))

    assert (changed["status"], changed["call_unknown"], changed["failure_message"]) == ("reversed", False, None)


def test_reversed_already_is_looked_up_at_once_and_reversed_elsewhere_in_words(db: Database) -> None:
    leased = claimed_call(db)
    fully = "The transfer tr_1 is already fully reversed."

    _, changed, now = effect(db, refusal(leased, message=fully))

    assert changed == {
        "next_retry_at": now,
        "retry_count": 1,
        "streak": 1,
        "streak_verdict": "already_reversed",
        "streak_since": now,
        "failure_code": "already_reversed",
        "failure_message": fully,
        "call_generation": 2,
        "call_params": None,
        "call_minted_at": now,
        "call_last_sent_at": now,
    }
    looked = claim_again(db, leased["id"])
    _, changed, _ = effect(db, look_up_report(looked, foreign(looked, "trr_theirs", 1000)))
    message = changed.pop("failure_message")
    assert "elsewhere" in message
    assert "trr_theirs (1000)" in message
    # Nobody else's reversal becomes ours.
    assert changed == {"status": "reversed", "next_retry_at": None}
    assert message in status_log(db, leased["id"])[-1]["reason"]


def test_reversed_already_after_a_lost_answer_is_ours_if_stripe_has_ours(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    record_one(db, refusal(claim_post(db, leased["id"]), message="It is already fully reversed."))
    looked = claim_again(db, leased["id"])

    _, changed, _ = effect(db, look_up_report(looked, found_reversal(leased)))

    assert changed == {
        "status": "reversed",
        "stripe_reversal_id": "trr_1",
        "next_retry_at": None,
        "failure_code": None,
        "failure_message": None,
    }


def test_a_balance_too_low_is_waited_for_45_days_and_no_longer(db: Database) -> None:
    without_jitter(db)
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, "balance_insufficient"))
    aged = "update marketplace.seller_transfers set waiting_since = clock_timestamp() - %s::interval"

    db.execute(aged, ["44 days 23 hours"])
    _, still, now = effect(db, refusal(claim_post(db, leased["id"]), 400, "balance_insufficient"))
    assert (still["streak"], still["next_retry_at"]) == (2, now + timedelta(hours=2))
    assert still["call_generation"] == 3

    db.execute(aged, ["45 days"])
    _, ended, _ = effect(db, refusal(claim_post(db, leased["id"]), 400, "balance_insufficient", "Insufficient funds."))
    assert (ended["status"], ended["failure_code"], ended["next_retry_at"]) == (
        "permanently_failed",
        "insufficient_balance",
        None,
    )
    assert "45 days" in ended["failure_message"]
    assert "Insufficient funds." in ended["failure_message"]
    assert transfer(db, leased["id"])["retry_count"] == 0


def test_any_other_refusal_is_retried_five_times_with_growing_delay(db: Database) -> None:
    without_jitter(db)
    leased = claimed_call(db)
    delays, generations, counts = [], [], []
    for _ in range(5):
        _, changed, now = effect(db, refusal(leased, 400, "odd", "No."))
        delays.append((changed["next_retry_at"] - now).total_seconds())
        generations.append(changed["call_generation"])
        counts.append(changed["retry_count"])
        assert (changed["call_params"], changed["call_minted_at"]) == (None, now)
        leased = claim_post(db, leased["id"])

    assert (delays, generations, counts) == ([60, 120, 240, 480, 960], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5])
    _, ended, _ = effect(db, refusal(leased, 400, "odd", "No."))
    assert (ended["status"], ended["retry_count"], ended["next_retry_at"]) == ("permanently_failed", 6, None)
    assert ended["failure_message"] == "Stripe refused it 6 times. No."
    assert transfer(db, leased["id"])["failure_code"] == "odd"
    actions = [attempt["action"] for attempt in attempts(db, leased["id"])]
    # Before each generation but the first, a look: it spends nothing.
    assert actions == ["reverse"] + ["look_up_reversals", "reverse"] * 5


def test_a_transfer_that_stripe_does_not_know_ends_the_row_at_once(db: Database) -> None:
    leased = claimed_call(db)

    _, changed, now = effect(db, refusal(leased, 404, "resource_missing", "No such transfer: 'tr_1'"))

    assert changed == {
        "status": "permanently_failed",
        "next_retry_at": None,
        "streak": 1,
        "streak_verdict": "not_found",
        "streak_since": now,
        "failure_code": "resource_missing",
        "failure_message": "No such transfer: 'tr_1'",
        "call_last_sent_at": now,
    }


def test_a_row_that_reached_its_end_leaves_no_outcome_open(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 h")

    record_one(db, refusal(claim_again(db, leased["id"]), 404, "resource_missing"))

    ended = transfer(db, leased["id"])
    assert (ended["status"], ended["call_unknown"]) == ("permanently_failed", False)


def test_a_new_generation_starts_without_the_signs_of_the_old_one(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 500, error_type="api_error", replayed=True))
    held = transfer(db, leased["id"])
    assert (held["call_generation"], held["call_replayed"], held["call_unknown"]) == (1, True, True)
    pass_time(db, leased["id"], "1 hour 1 second")

    record_one(db, nothing_found(claim_again(db, leased["id"])))

    held = transfer(db, leased["id"])
    assert (held["call_generation"], held["call_replayed"], held["call_unknown"]) == (2, False, False)
    # A replayed 400 is a refusal like the first one, and no reason to stop sending.
    record_one(db, refusal(claim_post(db, leased["id"]), replayed=True))
    held = transfer(db, leased["id"])
    assert (held["call_generation"], held["call_replayed"], held["call_unknown"]) == (3, False, False)
    replayed = [each["replayed"] for each in attempts(db, leased["id"]) if each["action"] == "reverse"]
    assert replayed == [True, True]
