"""db/functions/settle.sql: what a verdict does to a row, to the last column."""

from datetime import timedelta

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.transfers import (
    Facts,
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
    report,
    reversal_object,
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


def test_a_reversal_that_stripe_holds_is_kept_and_from_then_on_only_looked_up(db: Database) -> None:
    without_jitter(db)
    leased = claimed_call(db)

    _, changed, now = effect(db, success(leased, status="pending"))

    assert changed.pop("failure_message")
    assert changed == {
        "stripe_reversal_id": "trr_1",
        "next_retry_at": now + timedelta(minutes=10),
        "streak": 1,
        "streak_verdict": "accepted",
        "streak_since": now,
        "waiting_since": now,
        "failure_code": "accepted",
        "call_last_sent_at": now,
    }
    for minutes in (20, 40):
        looked = claim_again(db, leased["id"])
        assert (looked["action"], looked["stripe_reversal_id"]) == ("look_up_reversals", "trr_1")
        _, changed, now = effect(db, look_up_report(looked, found_reversal(leased, status="pending")))
        assert changed["next_retry_at"] == now + timedelta(minutes=minutes)
        assert not {"status", "stripe_reversal_id", "call_generation", "call_last_sent_at"} & changed.keys()
    looked = claim_again(db, leased["id"])
    _, changed, _ = effect(db, look_up_report(looked, found_reversal(leased, status="succeeded")))
    assert (changed["status"], transfer(db, leased["id"])["stripe_reversal_id"]) == ("reversed", "trr_1")


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_held_reversal_that_fails_at_stripe_is_asked_for_anew(db: Database, status: str) -> None:
    without_jitter(db)
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))

    looked = claim_again(db, leased["id"])

    _, changed, now = effect(db, look_up_report(looked, found_reversal(leased, status=status)))

    assert changed.pop("failure_message")
    assert changed == {
        "stripe_reversal_id": None,
        "next_retry_at": now + timedelta(hours=1),
        "streak_verdict": "insufficient_balance",
        "streak_since": now,
        "failure_code": "insufficient_balance",
        "call_generation": 2,
        "call_params": None,
        "call_minted_at": now,
    }
    assert attempts(db, leased["id"])[0]["stripe_object_id"] == "trr_1"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_an_answer_that_is_a_failed_reversal_at_once_waits_like_a_balance_too_low(db: Database, status: str) -> None:
    without_jitter(db)
    leased = claimed_call(db)

    _, changed, now = effect(db, success(leased, status=status))

    assert changed.pop("failure_message")
    assert changed == {
        "next_retry_at": now + timedelta(hours=1),
        "streak": 1,
        "streak_verdict": "insufficient_balance",
        "streak_since": now,
        "waiting_since": now,
        "failure_code": "insufficient_balance",
        "call_generation": 2,
        "call_params": None,
        "call_minted_at": now,
        "call_last_sent_at": now,
    }
    assert [attempt["stripe_object_id"] for attempt in attempts(db, leased["id"])] == ["trr_1"]


def test_the_waiting_time_goes_on_through_reversals_that_stripe_holds(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, "balance_insufficient"))
    db.execute("update marketplace.seller_transfers set waiting_since = clock_timestamp() - interval '40 days'")
    began = transfer(db, leased["id"])["waiting_since"]

    held = claim_post(db, leased["id"])
    record_one(db, success(held, status="pending"))
    failed = found_reversal(held, status="failed")
    record_one(db, look_up_report(claim_again(db, leased["id"]), failed))
    assert transfer(db, leased["id"])["waiting_since"] == began

    # Nor is it ended by what is no matter of the balance.
    for outcome in (timeout, refusal, lambda call: refusal(call, 429, "rate_limit")):
        record_one(db, outcome(claim_post(db, leased["id"])))
    assert transfer(db, leased["id"])["waiting_since"] == began

    db.execute("update marketplace.seller_transfers set waiting_since = clock_timestamp() - interval '45 days'")
    held = claim_post(db, leased["id"])
    record_one(db, success(held, "trr_2", status="pending"))
    assert transfer(db, leased["id"])["status"] == "reversal_pending"
    looked = claim_again(db, leased["id"])
    ended = record_one(db, look_up_report(looked, failed, found_reversal(held, "trr_2", status="failed")))
    assert ended["status"] == "permanently_failed"


def ask_for_what_stripe_holds(db: Database, held: DictRow) -> DictRow:
    """The call under way at an upgrade: the release before asked again for a reversal that Stripe holds."""
    claim_again(db, held["id"])
    db.execute("update marketplace.seller_transfers set lease_action = 'reverse' where id = %s", [held["id"]])
    return {**held, "lease_token": transfer(db, held["id"])["lease_token"]}


def test_another_reversal_than_the_held_one_parks_the_row(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_1", status="pending"))

    _, changed, _ = effect(db, success(ask_for_what_stripe_holds(db, leased), "trr_2"))

    assert changed["parked_reason"].startswith("mismatch")
    assert "trr_2" in changed["parked_reason"]
    assert transfer(db, leased["id"])["stripe_reversal_id"] == "trr_1"


def test_a_balance_too_low_waits_and_takes_a_new_generation(db: Database) -> None:
    without_jitter(db)
    leased = claimed_call(db)

    _, changed, now = effect(db, refusal(leased, 400, "balance_insufficient", "Insufficient funds."))

    assert changed == {
        "next_retry_at": now + timedelta(hours=1),
        "streak": 1,
        "streak_verdict": "insufficient_balance",
        "streak_since": now,
        "waiting_since": now,
        "failure_code": "balance_insufficient",
        "failure_message": "Insufficient funds.",
        "call_generation": 2,
        "call_params": None,
        "call_minted_at": now,
        "call_last_sent_at": now,
    }


def test_waiting_in_between_spends_no_retry(db: Database) -> None:
    leased = claimed_call(db)
    for outcome in (refusal, timeout, lambda call: refusal(call, 429, "rate_limit"), refusal):
        record_one(db, outcome(leased))
        leased = claim_post(db, leased["id"])

    held = transfer(db, leased["id"])
    assert (held["retry_count"], held["call_generation"], held["streak"]) == (2, 3, 1)


def test_an_unknown_outcome_is_looked_up_keeps_the_key_and_is_never_given_up(db: Database) -> None:
    without_jitter(db)
    leased = claimed_call(db)

    _, changed, now = effect(db, timeout(leased))

    assert changed == {
        "next_retry_at": now + timedelta(seconds=5),
        "streak": 1,
        "streak_verdict": "unknown",
        "streak_since": now,
        "failure_code": "unknown",
        "failure_message": "no answer within 20 s",
        "call_last_sent_at": now,
        "call_unknown": True,
    }
    db.execute("update marketplace.seller_transfers set streak = 1000, streak_since = now() - interval '1 year'")
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    record_one(db, nothing_found(looked))
    again = claim_post(db, leased["id"])
    assert again["idempotency_key"] == leased["idempotency_key"]
    _, changed, now = effect(db, refusal(again, 503, error_type="api_error"))
    assert (changed["streak"], changed["next_retry_at"]) == (1001, now + timedelta(hours=1))


def test_an_outcome_without_any_words_is_still_told_in_words(db: Database) -> None:
    leased = claimed_call(db)
    assert effect(db, report(leased, http_status=503))[1]["failure_message"] == "Stripe answered with HTTP 503."

    again = claim_post(db, leased["id"])
    assert effect(db, report(again))[1]["failure_message"] == "No answer came from Stripe."

    looked = claim_again(db, leased["id"])
    assert effect(db, report(looked, http_status=503))[1]["failure_message"] == "Stripe answered with HTTP 503."
    looked = claim_again(db, leased["id"])
    assert effect(db, report(looked))[1]["failure_message"] == "No answer came from Stripe."


@pytest.mark.parametrize(
    ("status", "code", "unknown"),
    [(429, "rate_limit", False), (429, "lock_timeout", False), (409, "idempotency_key_in_use", True)],
)
def test_throttling_waits_with_the_same_key_and_a_409_leaves_the_outcome_open(
    db: Database, status: int, code: str, unknown: bool
) -> None:
    without_jitter(db)
    leased = claimed_call(db)

    _, changed, now = effect(db, refusal(leased, status, code, "Slower."))

    assert changed == {
        "next_retry_at": now + timedelta(seconds=1),
        "streak": 1,
        "streak_verdict": "throttled",
        "streak_since": now,
        "failure_code": code,
        "failure_message": "Slower.",
        "call_last_sent_at": now,
        **({"call_unknown": True} if unknown else {}),
    }


def test_what_is_no_answer_to_the_call_leaves_an_unknown_outcome_unknown(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))

    for status, code in ((429, "rate_limit"), (409, "idempotency_key_in_use"), (401, None)):
        record_one(db, refusal(claim_post(db, leased["id"]), status, code))
        assert (status, transfer(db, leased["id"])["call_unknown"]) == (status, True)


def test_a_definitive_refusal_settles_an_unknown_outcome(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))

    record_one(db, refusal(claim_post(db, leased["id"])))

    assert transfer(db, leased["id"])["call_unknown"] is False


def test_a_call_that_was_not_sent_only_gives_the_lease_back(db: Database) -> None:
    leased = claimed_call(db)

    _, changed, _ = effect(db, report(leased, sent=False, error_message="shutting down"))

    assert changed == {}
    (attempt,) = attempts(db, leased["id"])
    assert (attempt["kind"], attempt["verdict"], attempt["error_message"]) == ("not_sent", "not_sent", "shutting down")
    assert claim_again(db, leased["id"])["idempotency_key"] == leased["idempotency_key"]


def test_a_key_that_stripe_knows_with_other_parameters_parks_the_row(db: Database) -> None:
    leased = claimed_call(db)
    message = "Keys for idempotent requests can only be used with the same parameters they were first used with."

    _, changed, now = effect(db, refusal(leased, 400, None, message, error_type="idempotency_error"))

    assert changed.pop("parked_reason").startswith("conflict: ")
    assert changed == {
        "streak": 1,
        "streak_verdict": "conflict",
        "streak_since": now,
        "failure_code": "conflict",
        "failure_message": message,
        "call_last_sent_at": now,
    }


def test_a_reversal_that_is_not_the_one_asked_for_parks_the_row(db: Database) -> None:
    wrongs: list[Facts] = [
        {"amount": 999},
        {"amount": "1000"},
        {"amount": None},
        {"currency": "eur"},
        {"currency": None},
        {"transfer": "tr_1"},
        {"transfer": None},
    ]
    for n, wrong in enumerate(wrongs, start=2):
        leased = claimed_call(db, n)

        _, changed, _ = effect(db, success(leased, **wrong))

        assert (wrong, changed["parked_reason"][:10]) == (wrong, "mismatch: ")
        assert f"trr_{n}" in changed["parked_reason"]
        assert (changed["streak_verdict"], changed["call_unknown"]) == ("mismatch", True)
        assert not {"status", "stripe_reversal_id", "call_generation", "next_retry_at"} & changed.keys()
        assert attempts(db, leased["id"])[0]["stripe_object_id"] == f"trr_{n}"


def test_a_success_that_is_about_something_else_says_nothing(db: Database) -> None:
    leased = claimed_call(db)
    for strange in (
        report(leased, http_status=200),
        report(leased, http_status=204, object={}),
        success(leased, object="transfer", id="tr_1"),
        success(leased, object=None),
        success(leased, "re_1"),
        success(leased, "trr_"),
        success(leased, "trr_1; drop table x"),
        success(leased, "trr_" + "1" * 300),
        success(leased, status="of a new kind"),
        success(leased, status={}),
        report(leased, http_status=302, object=reversal_object(leased)),
        report(leased, http_status=None, object=reversal_object(leased)),
    ):
        outcome = {**strange, "id": leased["id"], "lease_token": str(leased["lease_token"])}
        _, changed, _ = effect(db, outcome)
        assert (strange, transfer(db, leased["id"])["streak_verdict"]) == (strange, "unknown")
        assert not {"status", "stripe_reversal_id", "parked_reason"} & changed.keys()
        leased = claim_post(db, leased["id"])


@pytest.mark.parametrize(
    ("status", "code"), [(400, "balance_insufficient"), (400, None), (404, "resource_missing")], ids=str
)
def test_while_stripe_holds_a_reversal_of_ours_no_other_key_is_made(
    db: Database, status: int, code: str | None
) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_1", status="pending"))
    again = ask_for_what_stripe_holds(db, leased)

    record_one(db, refusal(again, status, code))

    held = transfer(db, leased["id"])
    assert (held["status"], held["stripe_reversal_id"], held["call_generation"]) == ("reversal_pending", "trr_1", 1)
    assert (held["call_unknown"], held["parked_reason"], held["retry_count"]) == (True, None, 0)


def test_a_404_for_one_transfer_whose_reversal_stripe_holds_pauses_nobody(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_1", status="pending"))

    record_one(db, refusal(ask_for_what_stripe_holds(db, leased), 404, "resource_missing"))

    assert value(db, "select paused_by is null from marketplace.stripe_control")
    assert claim_again(db, leased["id"])["action"] == "look_up_reversals"
