"""db/functions/look_up.sql, reversals_seen.sql, settle_look_up.sql: what a look-up saw, and what follows from it."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.databases import Database
from tests.support.look_ups import claimed_look_up, foreign, identity_of, ours, pass_time, seen
from tests.support.transfers import (
    Facts,
    attempts,
    claim,
    claim_again,
    claim_post,
    claimed_call,
    effect,
    lapse_lease,
    make_due,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    report,
    request_parts,
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


# Ours


def test_a_reversal_of_ours_that_is_found_is_adopted(db: Database) -> None:
    looked = claimed_look_up(db)

    _, changed, _ = effect(db, seen(looked, ours(db, looked)))

    assert (changed["status"], changed["stripe_reversal_id"], changed["call_unknown"]) == ("reversed", "trr_1", False)
    assert transfer(db, looked["id"])["failure_message"] is None
    found = attempts(db, looked["id"])[-1]
    assert (found["verdict"], found["stripe_object_id"], found["found_count"]) == ("succeeded", "trr_1", 1)


def test_it_is_adopted_also_when_the_look_up_is_reported_after_its_lease_ran_out(db: Database) -> None:
    looked = claimed_look_up(db)
    lapse_lease(db, looked["id"])

    assert record_one(db, seen(looked, ours(db, looked)))["status"] == "reversed"


def test_it_is_found_among_reversals_made_elsewhere(db: Database) -> None:
    looked = claimed_look_up(db)
    listed = [foreign(looked, f"trr_f{n}", 1) for n in range(300)]

    recorded = record_one(db, seen(looked, *listed, ours(db, looked), amount=1300))

    assert (recorded["verdict"], transfer(db, looked["id"])["stripe_reversal_id"]) == ("succeeded", "trr_1")


def test_a_pending_one_is_followed_by_looking_until_stripe_has_made_it(db: Database) -> None:
    without_jitter(db)
    looked = claimed_look_up(db)

    _, changed, now = effect(db, seen(looked, ours(db, looked, status="pending")))
    assert (changed["stripe_reversal_id"], changed["call_unknown"]) == ("trr_1", False)
    assert changed["next_retry_at"] == now + timedelta(minutes=10)
    assert (changed["failure_code"], changed["waiting_since"]) == ("accepted", now)

    again = claim_again(db, looked["id"])
    assert (again["action"], again["stripe_reversal_id"]) == ("look_up_reversals", "trr_1")
    _, changed, now = effect(db, seen(again, ours(db, again, status="pending")))
    assert changed["next_retry_at"] == now + timedelta(minutes=20)

    last = claim_again(db, looked["id"])
    assert record_one(db, seen(last, ours(db, last, status="succeeded")))["status"] == "reversed"


def test_a_held_one_is_looked_up_however_old_its_key_gets_and_never_asked_for_again(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))

    for _ in range(5):
        pass_time(db, leased["id"], "5 days")
        looked = claim_again(db, leased["id"])
        assert looked["action"] == "look_up_reversals"
        record_one(db, seen(looked, ours(db, looked, status="pending")))
    assert transfer(db, leased["id"])["parked_reason"] is None


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_one_that_failed_at_stripe_is_replaced_by_a_new_generation_and_the_waiting_goes_on(
    db: Database, status: str
) -> None:
    without_jitter(db)
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    pass_time(db, leased["id"], "10 days")
    waiting_since = transfer(db, leased["id"])["waiting_since"]
    looked = claim_again(db, leased["id"])

    _, changed, now = effect(db, seen(looked, ours(db, looked, status=status)))

    assert (changed["stripe_reversal_id"], changed["call_generation"], changed["call_minted_at"]) == (None, 2, now)
    assert (changed["failure_code"], changed["next_retry_at"]) == ("insufficient_balance", now + timedelta(hours=1))
    assert transfer(db, looked["id"])["waiting_since"] == waiting_since


def test_one_that_failed_replaces_only_the_generation_that_made_it(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    first = claim_again(db, leased["id"])
    record_one(db, seen(first, ours(db, first, status="failed")))

    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    recorded = record_one(db, seen(looked, ours(db, looked, status="failed", generation=1)))

    assert recorded["verdict"] == "absent"
    again = claim(db)[0]
    assert (again["action"], transfer(db, leased["id"])["call_generation"]) == ("reverse", 2)
    assert again["metadata"]["seller_transfers_generation"] == "2"


def test_a_failed_one_is_no_success_beside_a_live_one(db: Database) -> None:
    looked = claimed_look_up(db)

    recorded = record_one(
        db, seen(looked, ours(db, looked, "trr_a", status="failed"), ours(db, looked, "trr_b", status="succeeded"))
    )

    assert (recorded["verdict"], transfer(db, looked["id"])["stripe_reversal_id"]) == ("succeeded", "trr_b")


def test_a_row_whose_seller_has_no_balance_for_45_days_is_given_up_by_the_look_up_too(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    pass_time(db, leased["id"], "45 days")
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked, ours(db, looked, status="failed")))

    row = transfer(db, leased["id"])
    assert (row["status"], row["failure_code"]) == ("permanently_failed", "insufficient_balance")


@pytest.mark.parametrize("statuses", [(None, None), ("succeeded", "pending"), ("pending", "pending")])
def test_two_live_ones_of_ours_park_the_row_loudly(db: Database, statuses: tuple[str | None, str | None]) -> None:
    looked = claimed_look_up(db)
    first, second = statuses

    recorded = record_one(
        db,
        seen(looked, ours(db, looked, "trr_a", status=first), ours(db, looked, "trr_b", status=second), amount=2000),
    )

    parked = transfer(db, looked["id"])
    assert (recorded["verdict"], parked["status"]) == ("moved_twice", "reversal_pending")
    assert parked["parked_reason"].startswith("moved_twice: ")
    assert "trr_a" in parked["parked_reason"]
    assert "trr_b" in parked["parked_reason"]


@pytest.mark.parametrize("changes", [{"amount": 999}, {"currency": "eur"}], ids=["amount", "currency"])
def test_one_of_ours_with_another_amount_or_currency_parks_the_row(db: Database, changes: Facts) -> None:
    looked = claimed_look_up(db)

    recorded = record_one(db, seen(looked, ours(db, looked, **changes)))

    assert recorded["verdict"] == "mismatch"
    assert transfer(db, looked["id"])["parked_reason"].startswith("mismatch: ")


def test_another_one_than_stripe_had_accepted_parks_the_row(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    looked = claim_again(db, leased["id"])

    assert record_one(db, seen(looked, ours(db, looked, "trr_other")))["verdict"] == "mismatch"


def test_one_that_is_another_rows_evidence_parks_the_row(db: Database) -> None:
    other = claimed_call(db, 2)
    record_one(db, success(other, "trr_1"))
    looked = claimed_look_up(db)

    assert record_one(db, seen(looked, ours(db, looked)))["verdict"] == "mismatch"


def test_one_that_stripe_had_accepted_is_known_by_its_id_when_its_metadata_was_edited(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    looked = claim_again(db, leased["id"])

    assert record_one(db, seen(looked, foreign(looked, "trr_1", 1000, status="succeeded")))["status"] == "reversed"


def test_an_accepted_one_that_is_not_listed_is_looked_for_again(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    looked = claim_again(db, leased["id"])

    _, changed, _ = effect(db, seen(looked))

    assert changed["failure_code"] == "unclear"
    assert claim_again(db, leased["id"])["action"] == "look_up_reversals"


def test_the_id_of_one_that_failed_is_kept_with_the_look_up_that_found_it(db: Database) -> None:
    looked = claimed_look_up(db)

    assert record_one(db, seen(looked, ours(db, looked, status="failed")))["verdict"] == "insufficient_balance"

    assert attempts(db, looked["id"])[-1]["stripe_object_id"] == "trr_1"


def test_a_row_whose_reversal_stripe_holds_does_not_end_because_a_key_does_not_find_its_transfer(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))

    missing = refusal(claim_again(db, leased["id"]), 404, "resource_missing", "No such transfer: 'tr_1'")

    assert record_one(db, missing)["verdict"] == "unclear"
    assert transfer(db, leased["id"])["stripe_reversal_id"] == "trr_1"


# Nothing of ours


def test_nothing_found_while_the_key_is_young_means_the_same_key_again_at_once(db: Database) -> None:
    looked = claimed_look_up(db)
    key = looked["idempotency_key"]

    before, changed, _ = effect(db, seen(looked))

    assert changed == {"call_absent_at": before["leased_at"]}
    (again,) = claim(db)
    assert (again["action"], again["idempotency_key"], again["amount"]) == ("reverse", key, 1000)
    assert transfer(db, looked["id"])["call_unknown"]


def test_nothing_found_long_after_the_last_call_takes_the_doubt_away(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "61 min")

    _, changed, _ = effect(db, seen(claim_again(db, leased["id"])))

    assert changed["call_unknown"] is False
    assert "call_generation" not in changed


def test_an_absence_is_dated_by_the_claim_of_the_look_up(db: Database) -> None:
    looked = claimed_look_up(db)
    # Claimed a minute after the last call could have left, reported when more than an hour is over.
    db.execute(
        """
        update marketplace.seller_transfers
        set leased_at = leased_at - interval '2 hours', call_last_sent_at = leased_at - interval '121 minutes'
        where id = %s
        """,
        [looked["id"]],
    )

    _, changed, _ = effect(db, seen(looked))

    assert "call_unknown" not in changed


def test_an_absence_reported_after_its_lease_ran_out_is_void(db: Database) -> None:
    looked = claimed_look_up(db)
    pass_time(db, looked["id"], "2 hours")
    lapse_lease(db, looked["id"])

    _, changed, _ = effect(db, seen(looked))

    assert changed["failure_code"] == "unclear"
    assert {"call_absent_at", "call_unknown", "call_generation"}.isdisjoint(changed)


def test_an_old_key_is_replaced_after_a_quiet_absence(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "20 hours 1 second")
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"

    _, changed, now = effect(db, seen(looked))

    assert (changed["call_generation"], changed["call_minted_at"], changed["call_params"]) == (2, now, None)
    assert changed["call_unknown"] is False
    (again,) = claim(db)
    assert (again["action"], again["idempotency_key"]) == ("reverse", leased["idempotency_key"][:-1] + "2")


def test_a_row_that_was_looked_up_comes_before_those_that_are_due_after_it(db: Database) -> None:
    waiting = [refunded_transfer(db, n)["id"] for n in (1, 2)]
    for each in waiting:
        pass_time(db, each, "21 hours")

    # At the end of a queue of many hours it would meet its turn with a key that is too old again, and so on for ever.
    turns = []
    for _ in range(4):
        (leased,) = claim(db, 1)
        turns.append((leased["id"], leased["action"]))
        record_one(db, success(leased) if leased["action"] == "reverse" else seen(leased))

    assert turns == [(each, action) for each in waiting for action in ("look_up_reversals", "reverse")]


def test_an_old_key_is_not_replaced_before_it_is_quiet(db: Database) -> None:
    leased = claimed_call(db)
    pass_time(db, leased["id"], "20 hours 1 second")
    record_one(db, timeout(leased))
    sent_at = transfer(db, leased["id"])["call_last_sent_at"]
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"

    _, changed, _ = effect(db, seen(looked))

    assert "call_generation" not in changed
    assert changed["next_retry_at"] == sent_at + timedelta(hours=1)
    assert claim_again(db, leased["id"])["action"] == "look_up_reversals"


def test_a_key_that_was_never_sent_gets_a_new_date_and_stays(db: Database) -> None:
    (leased,) = [claimed_call(db)]
    record_one(db, refusal(leased, message="No."))
    pass_time(db, leased["id"], "21 hours")
    looked = claim_again(db, leased["id"])

    _, changed, now = effect(db, seen(looked))

    assert changed["call_minted_at"] == now
    assert "call_generation" not in changed
    assert claim(db)[0]["idempotency_key"] == looked["idempotency_key"]


def test_a_key_that_replays_a_stored_500_is_never_sent_again_and_replaced_when_it_is_quiet(db: Database) -> None:
    looked = claimed_look_up(db)
    record_one(db, seen(looked))
    again = claim(db)[0]
    stored = report(again, http_status=500, error_type="api_error", error_message="Sorry.", replayed=True)
    _, changed, _ = effect(db, stored)
    assert (changed["call_replayed"], changed["call_absent_at"]) == (True, None)
    sent_at = transfer(db, looked["id"])["call_last_sent_at"]

    for _ in range(3):
        early = claim_again(db, looked["id"])
        assert early["action"] == "look_up_reversals"
        _, changed, _ = effect(db, seen(early))
        assert changed["next_retry_at"] == sent_at + timedelta(hours=1)
    pass_time(db, looked["id"], "1 hour 1 second")
    late = claim_again(db, looked["id"])
    assert late["action"] == "look_up_reversals"
    _, changed, _ = effect(db, seen(late))

    assert (changed["call_generation"], changed["call_replayed"], changed["call_unknown"]) == (2, False, False)


def test_looking_spends_nothing_and_resets_no_streak(db: Database) -> None:
    leased = claimed_call(db)
    for streak in (1, 2, 3):
        record_one(db, timeout(leased))
        assert transfer(db, leased["id"])["streak"] == streak
        looked = claim_again(db, leased["id"])
        record_one(db, seen(looked))
        (leased,) = claim(db)
        assert leased["action"] == "reverse"
    assert transfer(db, leased["id"])["retry_count"] == 0


# What does not count


def without(name: str) -> Any:
    return lambda looked, facts: {**facts, "object": {**facts["object"], name: None}}


INCOMPLETE = {
    "no list": lambda looked, facts: {**facts, "found": None},
    "no transfer": lambda looked, facts: {**facts, "object": None},
    "another transfer": lambda looked, facts: {**facts, "object": {**facts["object"], "id": "tr_9"}},
    "another kind": lambda looked, facts: {**facts, "object": {**facts["object"], "object": "charge"}},
    "no amount": without("amount"),
    "no sum": without("amount_reversed"),
    "another sum": lambda looked, facts: {**facts, "object": {**facts["object"], "amount_reversed": 1}},
    "a reversal twice": lambda looked, facts: seen(looked, *[foreign(looked, "trr_f", 5)] * 2),
    "of another transfer": lambda looked, facts: seen(looked, foreign(looked, "trr_f", 5, transfer="tr_9")),
    "of another kind": lambda looked, facts: seen(looked, foreign(looked, "trr_f", 5, object="refund")),
    "of no id": lambda looked, facts: seen(looked, foreign(looked, "", 5)),
    "of a fraction": lambda looked, facts: (
        seen(looked, foreign(looked, "trr_f", 5), amount_reversed=5)
        | {"found": [foreign(looked, "trr_f", 5) | {"amount": 5.5}]}
    ),
    "of a text": lambda looked, facts: facts | {"found": ["trr_1"]},
    "of an unknown status": lambda looked, facts: facts | {"found": [foreign(looked, "trr_f", 5, status="odd")]},
    "a list in an object": lambda looked, facts: facts | {"found": {"data": []}},
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_a_look_up_that_is_not_complete_changes_nothing_and_is_made_again(db: Database, case: str) -> None:
    looked = claimed_look_up(db)

    before, changed, _ = effect(db, INCOMPLETE[case](looked, seen(looked)))

    assert set(changed) <= {"streak", "next_retry_at", "failure_code", "failure_message"}
    assert (changed["failure_code"], changed["streak"]) == ("unclear", before["streak"] + 1)
    assert attempts(db, looked["id"])[-1]["verdict"] == "unclear"
    assert claim_again(db, looked["id"])["action"] == "look_up_reversals"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("another sum", "The list of reversals sums to 0; Stripe says that 1 is reversed."),
        ("of an unknown status", "The transfer has no amounts, or its list of reversals has one that cannot be read"),
    ],
)
def test_the_row_says_what_a_look_up_stumbled_over(db: Database, case: str, words: str) -> None:
    looked = claimed_look_up(db)

    record_one(db, INCOMPLETE[case](looked, seen(looked)))

    assert transfer(db, looked["id"])["failure_message"].startswith(words)


@pytest.mark.parametrize(
    ("status", "code", "message", "verdict"),
    [
        (500, None, "Sorry.", "unclear"),
        (400, None, "The transfer tr_1 is already fully reversed.", "unclear"),
        (402, None, "No.", "unclear"),
        (404, None, "No such path.", "unclear"),
        (409, None, "Busy.", "throttled"),
        (429, "rate_limit", "Slow.", "throttled"),
    ],
)
def test_a_refused_look_up_spends_nothing_and_settles_nothing(
    db: Database, status: int, code: str | None, message: str, verdict: str
) -> None:
    looked = claimed_look_up(db)

    _, changed, _ = effect(db, refusal(looked, status, code, message))

    assert attempts(db, looked["id"])[-1]["verdict"] == verdict
    assert {"status", "retry_count", "call_generation", "call_unknown", "call_last_sent_at"}.isdisjoint(changed)


@pytest.mark.parametrize("status", [401, 403])
def test_a_look_up_refused_for_its_key_pauses_the_calls_and_leaves_the_row(db: Database, status: int) -> None:
    looked = claimed_look_up(db)

    _, changed, _ = effect(db, refusal(looked, status, None, "Nope."))

    assert set(changed) == {"failure_code", "failure_message"}
    make_due(db, looked["id"])
    assert claim(db) == []


def test_a_transfer_that_a_look_up_does_not_find_ends_the_row_once_no_call_can_be_under_way(db: Database) -> None:
    looked = claimed_look_up(db)
    missing = refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'")
    assert record_one(db, missing)["verdict"] == "unclear"
    pass_time(db, looked["id"], "2 h")
    looked = claim_again(db, looked["id"])

    record_one(db, refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'"))

    row = transfer(db, looked["id"])
    assert (row["status"], row["failure_code"], row["call_unknown"]) == (
        "permanently_failed",
        "resource_missing",
        False,
    )


def test_a_transfer_that_stripe_has_known_does_not_vanish(db: Database) -> None:
    looked = claimed_look_up(db)
    record_one(db, seen(looked))
    (leased,) = claim(db)

    _, changed, _ = effect(db, refusal(leased, 404, "resource_missing", "No such transfer: 'tr_1'"))

    assert attempts(db, looked["id"])[-1]["verdict"] == "configuration"
    assert "status" not in changed


def test_a_transfer_not_known_after_an_answer_nobody_could_read_is_a_persons(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, report(leased, http_status=200, error_message="HTTP 200, but the object cannot be used"))
    missing = (404, "resource_missing", "No such transfer: 'tr_1'")
    looked = claim_again(db, leased["id"])
    assert record_one(db, refusal(looked, *missing))["verdict"] == "unclear"
    pass_time(db, leased["id"], "2 h")

    assert record_one(db, refusal(claim_again(db, leased["id"]), *missing))["verdict"] == "mismatch"

    row = transfer(db, leased["id"])
    assert (row["status"], row["call_unknown"]) == ("reversal_pending", True)
    assert row["parked_reason"].startswith("mismatch: Stripe answered a request for tr_1 with what could not be read")
    refunded_transfer(db, 2)
    assert [each["stripe_transfer_id"] for each in claim(db)] == ["tr_2"]


def test_a_look_that_nobody_could_read_is_no_sign_that_stripe_has_known_a_transfer(db: Database) -> None:
    looked = claimed_look_up(db)
    record_one(db, report(looked, http_status=200, error_message="data is not a list of objects"))
    pass_time(db, looked["id"], "2 h")

    looked = claim_again(db, looked["id"])
    assert (
        record_one(db, refusal(looked, 404, "resource_missing", "No such transfer: 'tr_1'"))["verdict"] == "not_found"
    )


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_list_adds_up_whether_stripe_counts_what_is_pending_or_not(db: Database, is_counted: bool) -> None:
    looked = claimed_look_up(db)
    listed = [foreign(looked, "trr_f", 300), foreign(looked, "trr_g", 100, status="pending")]

    recorded = record_one(db, seen(looked, *listed, amount=1400, amount_reversed=400 if is_counted else 300))

    assert recorded["verdict"] == "absent"


def test_what_is_pending_is_not_left_whether_stripe_counts_it_or_not(db: Database) -> None:
    looked = claimed_look_up(db)
    listed = [foreign(looked, "trr_g", 100, status="pending")]

    assert record_one(db, seen(looked, *listed, amount=1099, amount_reversed=0))["verdict"] == "unclear"


def test_a_transfer_to_another_account_parks_the_row_before_money_moves(db: Database) -> None:
    looked = claimed_look_up(db)

    outcome = seen(looked)
    outcome["object"]["destination"] = "acct_9"
    record_one(db, outcome)

    parked = transfer(db, looked["id"])["parked_reason"]
    assert parked == "mismatch: at Stripe the transfer is to acct_9, here to acct_1: is it the right one?"


def test_a_look_up_that_was_not_made_gives_its_lease_back_and_changes_nothing(db: Database) -> None:
    looked = claimed_look_up(db)

    _, changed, _ = effect(db, report(looked) | {"sent": False})

    assert changed == {}


def test_a_lost_look_up_leaves_the_row_as_unknown_as_it_was(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, message="No."))
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    lapse_lease(db, leased["id"])

    (again,) = claim(db)

    assert again["action"] == "look_up_reversals"
    row = transfer(db, leased["id"])
    assert (row["call_unknown"], attempts(db, leased["id"])[-1]["verdict"]) == (False, "unclear")


def test_a_report_about_another_action_than_the_leased_one_says_nothing(db: Database) -> None:
    leased = claimed_call(db)

    recorded = record_one(db, seen(leased) | {"action": "look_up_reversals"})

    assert (recorded["verdict"], transfer(db, leased["id"])["call_unknown"]) == ("unknown", True)


# Reversed elsewhere


def test_a_refusal_because_it_is_reversed_is_followed_by_a_look_at_by_whom(db: Database) -> None:
    leased = claimed_call(db)
    refused = refusal(leased, 400, None, "The transfer tr_1 is already fully reversed.")
    _, changed, now = effect(db, refused)
    assert (changed["next_retry_at"], changed["call_generation"], changed["retry_count"]) == (now, 2, 1)

    (looked,) = claim(db)
    record_one(db, seen(looked, foreign(looked, "trr_f", 600), foreign(looked, "trr_g", 400)))

    row = transfer(db, leased["id"])
    assert (row["status"], row["stripe_reversal_id"], row["failure_code"]) == ("reversed", None, "already_reversed")
    assert row["failure_message"] == "Reversed elsewhere: trr_f (600), trr_g (400)"


def test_a_refusal_because_it_is_reversed_by_a_call_of_ours_adopts_that(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, None, "The transfer tr_1 is already fully reversed."))

    (looked,) = claim(db)
    record_one(db, seen(looked, ours(db, looked)))

    row = transfer(db, leased["id"])
    assert (row["status"], row["stripe_reversal_id"], row["failure_message"]) == ("reversed", "trr_1", None)


def test_a_refusal_that_no_look_up_confirms_is_tried_again_six_times_in_all(db: Database) -> None:
    leased = claimed_call(db)
    for refused in range(1, 7):
        assert leased["action"] == "reverse"
        record_one(db, refusal(leased, 400, None, "The transfer tr_1 is already fully reversed."))
        if refused < 6:
            looked = claim_again(db, leased["id"])
            assert record_one(db, seen(looked))["verdict"] == "absent"
            (leased,) = claim(db)
    assert transfer(db, leased["id"])["status"] == "permanently_failed"


def test_what_others_took_settles_no_row_while_a_call_of_ours_may_be_under_way(db: Database) -> None:
    looked = claimed_look_up(db)
    taken = foreign(looked, "trr_f", 1000)

    assert record_one(db, seen(looked, taken))["verdict"] == "unclear"
    pass_time(db, looked["id"], "1 hour 1 second")
    again = claim_again(db, looked["id"])
    assert record_one(db, seen(again, taken))["status"] == "reversed"


def test_what_is_another_rows_evidence_was_not_made_elsewhere_though_its_metadata_was_edited(db: Database) -> None:
    record_transfer(db)
    (first,), (second,) = (request_parts(db, {"key-1": amount}, f"re_{amount}") for amount in (400, 600))
    record_one(db, success(claim_post(db, first["id"]), "trr_a"))
    looked = claim_again(db, second["id"])

    # 100 less is left than it asks, and nobody is known who took them.
    edited = foreign(looked, "trr_a", 400)
    recorded = record_one(db, seen(looked, edited, amount=900))

    assert recorded["verdict"] == "mismatch"


def test_a_reversal_elsewhere_that_is_pending_is_waited_for(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, message="No."))
    looked = claim_again(db, leased["id"])

    recorded = record_one(db, seen(looked, foreign(looked, "trr_f", 1000, status="pending")))

    assert (recorded["verdict"], recorded["status"]) == ("unclear", "reversal_pending")


def test_less_left_than_asked_with_nothing_to_explain_it_parks_the_row(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, message="No."))
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked, amount=900))

    row = transfer(db, leased["id"])
    assert row["parked_reason"].startswith("mismatch: 900 is left of the transfer at Stripe, less than the 1000")


def test_a_transfer_in_another_currency_parks_the_row_before_money_moves(db: Database) -> None:
    looked = claimed_look_up(db)

    record_one(db, seen(looked, currency="eur"))

    assert transfer(db, looked["id"])["parked_reason"] == "mismatch: at Stripe the transfer is in eur, here in usd"


def test_a_reversal_with_the_identity_of_another_row_is_not_taken_for_ours(db: Database) -> None:
    other = claimed_call(db, 2)
    record_one(db, timeout(other))
    looked = claimed_look_up(db)
    strange = ours(db, looked, "trr_s") | {"metadata": {"seller_transfers_identity": identity_of(db, other["id"])}}

    recorded = record_one(db, seen(looked, strange, amount=2000))

    assert recorded["verdict"] == "absent"
