"""Sending a transfer, as a worker sees it: claimed, refused, lost, found again; and refunded at any moment of it."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows, value
from tests.support.look_ups import foreign, pass_time, seen
from tests.support.transfers import (
    Facts,
    at_commit,
    attempts,
    call,
    claim,
    claim_send_again,
    claim_sends,
    claimed_send,
    create_transfer,
    effect,
    family,
    lapse_lease,
    record,
    record_one,
    refusal,
    register,
    report,
    request_lines,
    request_parts,
    request_reversal,
    sent,
    status_log,
    success,
    timeout,
    transfer,
    transfer_object,
    transfers_found,
    without_jitter,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def unknown_send(db: Database, n: int = 1) -> int:
    """A transfer whose request got no answer."""
    leased = claimed_send(db, n)
    record_one(db, timeout(leased))
    return int(leased["id"])


def look(db: Database, transfer_id: int) -> None:
    """The next look-up for the row finds nothing."""
    leased = claim_send_again(db, transfer_id)
    assert leased["action"] == "look_up_transfer"
    record_one(db, transfers_found(leased))


def steps(db: Database, transfer_id: int) -> list[str]:
    return [entry["to_status"] for entry in status_log(db, transfer_id)]


def test_a_call_says_what_to_send_and_under_which_key(db: Database) -> None:
    created = create_transfer(db)

    (leased,) = claim_sends(db)

    identity = f"transfer:{value(db, 'select database_id from marketplace.stripe_control')}:key-1"
    said = {name: leased[name] for name in leased if name not in ("lease_token", "created_after")}
    assert said == {
        "id": created["id"],
        "action": "send",
        "lease_seconds": 60.0,
        "stripe_transfer_id": None,
        "stripe_reversal_id": None,
        "amount": 1000,
        "currency": "usd",
        "destination_account": "acct_1",
        "source_charge": None,
        "transfer_group": "order-1",
        "idempotency_key": f"{identity}:1",
        "metadata": {
            "seller_transfers_identity": identity,
            "seller_transfers_generation": "1",
            "transfer_key": "key-1",
            "order_id": "order-1",
        },
    }
    assert leased["created_after"] == created["created_at"] - timedelta(days=1)
    assert claim(db) == []  # it is no reversal


def test_a_charge_is_named_and_brings_its_own_group(db: Database) -> None:
    leased = claimed_send(db, p_source_charge="ch_1")

    assert (leased["source_charge"], leased["transfer_group"]) == ("ch_1", None)
    params = transfer(db, leased["id"])["call_params"]
    assert (params["source_transaction"], params.get("transfer_group")) == ("ch_1", None)
    assert params["destination"] == "acct_1"


def test_success_pays_the_seller_and_keeps_stripes_words(db: Database) -> None:
    leased = claimed_send(db, p_source_charge="ch_1")

    (recorded,) = record(db, sent(leased, transfer_group="group_of_the_charge"))

    assert (recorded["verdict"], recorded["status"], recorded["next_retry_at"]) == ("succeeded", "completed", None)
    paid = transfer(db, leased["id"])
    assert (paid["stripe_transfer_id"], paid["stripe_transfer_group"]) == ("tr_1", "group_of_the_charge")
    assert paid["completed_at"] is not None
    assert attempts(db, leased["id"])[-1]["stripe_object_id"] == "tr_1"
    assert claim_sends(db) == []
    assert record_one(db, sent(leased, transfer_group="group_of_the_charge"))["result"] == "already_recorded"


@pytest.mark.parametrize(
    "difference",
    [{"amount": 999}, {"currency": "eur"}, {"destination": "acct_2"}, {"source_transaction": "ch_9"}],
    ids=["amount", "currency", "destination", "charge"],
)
def test_an_answer_about_another_transfer_parks_the_row(db: Database, difference: dict[str, Any]) -> None:
    leased = claimed_send(db)

    _, changed, _ = effect(db, sent(leased, **difference))

    assert changed["parked_reason"].startswith("mismatch: ")
    assert (changed["call_unknown"], transfer(db, leased["id"])["status"]) == (True, "pending")
    assert claim_sends(db) == []


def test_a_transfer_of_another_row_is_no_evidence(db: Database) -> None:
    record_one(db, sent(claimed_send(db, 1)))
    second = claimed_send(db, 2, p_destination_account="acct_1")

    assert record_one(db, sent(second, "tr_1"))["verdict"] == "mismatch"


def test_a_refusal_fails_the_transfer_and_the_next_try_looks_before_it_has_a_new_key(db: Database) -> None:
    without_jitter(db)
    leased = claimed_send(db)

    _, changed, applied_at = effect(db, refusal(leased, 400, "account_invalid"))

    assert (changed["status"], changed["retry_count"], changed["call_generation"]) == ("failed", 1, 2)
    assert changed["next_retry_at"] == applied_at + timedelta(minutes=1)
    look(db, leased["id"])
    again = claim_send_again(db, leased["id"])
    assert (again["action"], again["idempotency_key"]) == ("send", leased["idempotency_key"][:-1] + "2")
    record_one(db, sent(again))
    assert steps(db, leased["id"]) == ["pending", "failed", "completed"]


def test_after_the_budget_the_transfer_is_given_up(db: Database) -> None:
    leased = claimed_send(db)
    for _ in range(5):
        record_one(db, refusal(leased))
        look(db, leased["id"])
        leased = claim_send_again(db, leased["id"])
    record_one(db, refusal(leased, message="The account is closed."))

    ended = transfer(db, leased["id"])
    assert (ended["status"], ended["retry_count"], ended["completed_at"]) == ("permanently_failed", 6, None)
    assert "The account is closed." in ended["failure_message"]
    assert steps(db, leased["id"]) == ["pending", "failed", "permanently_failed"]


def test_an_unknown_destination_ends_it_by_the_machines_way(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such destination: 'acct_1'"))
    assert steps(db, leased["id"]) == ["pending", "failed", "permanently_failed"]


def test_a_short_platform_balance_waits_like_a_sellers(db: Database) -> None:
    without_jitter(db)
    leased = claimed_send(db)

    _, changed, applied_at = effect(db, refusal(leased, 400, "balance_insufficient"))

    assert (changed["status"], changed["call_generation"]) == ("failed", 2)
    assert changed["next_retry_at"] == applied_at + timedelta(hours=1)
    assert changed["waiting_since"] == applied_at
    assert transfer(db, leased["id"])["retry_count"] == 0
    pass_time(db, leased["id"], "46 days")
    look(db, leased["id"])
    record_one(db, refusal(claim_send_again(db, leased["id"]), 400, "balance_insufficient"))
    ended = transfer(db, leased["id"])
    assert (ended["status"], ended["failure_code"]) == ("permanently_failed", "insufficient_balance")
    assert "platform's balance" in ended["failure_message"]


def test_the_key_of_the_other_mode_pauses_and_spends_nothing(db: Database) -> None:
    leased = claimed_send(db)

    message = "No such destination: 'acct_1'; a similar object exists in live mode, but a test mode key was used."
    assert record_one(db, refusal(leased, 400, "resource_missing", message))["verdict"] == "configuration"

    assert (transfer(db, leased["id"])["status"], transfer(db, leased["id"])["retry_count"]) == ("pending", 0)
    assert value(db, "select paused_by from marketplace.stripe_control") == "verdict"
    assert claim_sends(db) == []


def test_an_unknown_outcome_is_looked_up_and_what_bears_the_identity_is_adopted(db: Database) -> None:
    transfer_id = unknown_send(db)
    assert (transfer(db, transfer_id)["status"], transfer(db, transfer_id)["call_unknown"]) == ("pending", True)

    leased = claim_send_again(db, transfer_id)
    assert (leased["action"], leased["metadata"]) == ("look_up_transfer", None)
    stranger = transfer_object(leased, "tr_other", metadata={"seller_transfers_identity": "transfer:db:key-2"})
    recorded = record_one(db, transfers_found(leased, stranger, transfer_object(leased, "tr_ours", transfer_group="g")))

    paid = transfer(db, transfer_id)
    assert (recorded["verdict"], paid["status"], paid["stripe_transfer_id"]) == ("succeeded", "completed", "tr_ours")
    assert paid["stripe_transfer_group"] == "g"


def test_what_is_not_found_while_the_key_is_young_is_sent_again_with_the_same_key(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    look(db, leased["id"])

    again = claim_send_again(db, leased["id"])

    assert (again["action"], again["idempotency_key"]) == ("send", leased["idempotency_key"])
    assert again["metadata"] == leased["metadata"]


def test_an_old_key_is_only_looked_for_until_it_is_quiet_and_then_there_is_a_new_one(db: Database) -> None:
    leased = claimed_send(db)
    pass_time(db, leased["id"], "21 hours")
    lapse_lease(db, leased["id"])

    look(db, leased["id"])
    assert transfer(db, leased["id"])["call_generation"] == 1  # not quiet yet
    pass_time(db, leased["id"], "2 hours")
    look(db, leased["id"])

    held = transfer(db, leased["id"])
    assert (held["call_generation"], held["call_unknown"], held["status"]) == (2, False, "pending")


def test_an_absence_reported_after_its_lease_had_run_out_is_none(db: Database) -> None:
    """Whoever took over may have sent it since the list was read."""
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)
    lapse_lease(db, transfer_id)

    recorded = record_one(db, transfers_found(leased))

    assert (recorded["result"], recorded["verdict"]) == ("applied", "unclear")
    after = transfer(db, transfer_id)
    assert (after["call_unknown"], after["call_absent_at"]) == (True, None)


def test_two_transfers_under_one_identity_are_a_persons(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    twice = [transfer_object(leased, name) for name in ("tr_a", "tr_b")]
    assert record_one(db, transfers_found(leased, *twice))["verdict"] == "moved_twice"
    assert "tr_a (1000 usd), tr_b (1000 usd)" in transfer(db, transfer_id)["parked_reason"]


def test_of_two_transfers_the_one_that_was_taken_back_in_full_is_none_any_more(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)
    back = transfer_object(leased, "tr_a", amount_reversed=1000)
    listed = [back, transfer_object(leased, "tr_b", amount_reversed=1)]

    assert record_one(db, transfers_found(leased, *listed))["verdict"] == "succeeded"
    assert transfer(db, transfer_id)["stripe_transfer_id"] == "tr_b"


def test_a_send_and_a_look_up_for_one_cost_a_token_each(db: Database) -> None:
    bucket = "update marketplace.stripe_control set rate = 1, burst = 2, tokens = %s, tokens_at = 'tomorrow'"
    left = "select tokens from marketplace.stripe_control"
    # A moment to come counts as now: no token comes in before the claim.
    db.execute(bucket, [2])
    unknown_id = unknown_send(db)
    assert value(db, left) == 1

    db.execute(bucket, [1])
    claim_send_again(db, unknown_id)

    assert value(db, left) == 0
    create_transfer(db, 2)
    db.execute(bucket, [0])
    assert claim_sends(db) == []


@pytest.mark.parametrize(
    "difference",
    [{"amount": 1001}, {"currency": "eur"}, {"destination": "acct_2"}, {"source_transaction": "ch_9"}],
    ids=["more", "currency", "destination", "charge"],
)
def test_what_bears_our_mark_and_is_not_what_was_asked_for_is_a_persons(
    db: Database, difference: dict[str, Any]
) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    found = transfers_found(leased, transfer_object(leased, "tr_odd", **difference))
    assert record_one(db, found)["verdict"] == "mismatch"

    held = transfer(db, transfer_id)
    assert (held["status"], held["stripe_transfer_id"], held["call_unknown"]) == ("pending", None, True)
    assert held["parked_reason"].startswith("mismatch: Stripe has tr_odd")


def test_what_is_another_rows_payment_is_not_adopted(db: Database) -> None:
    record_one(db, sent(claimed_send(db, 2, p_destination_account="acct_1"), "tr_paid"))
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    assert record_one(db, transfers_found(leased, transfer_object(leased, "tr_paid")))["verdict"] == "mismatch"
    assert transfer(db, transfer_id)["stripe_transfer_id"] is None


def test_what_looks_like_ours_without_our_mark_is_never_adopted(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    alike = transfer_object(leased, "tr_hand", metadata={}, transfer_group="order-1")
    assert record_one(db, transfers_found(leased, alike))["verdict"] == "mismatch"

    held = transfer(db, transfer_id)
    assert "tr_hand" in held["parked_reason"]
    assert (held["status"], held["stripe_transfer_id"]) == ("pending", None)


@pytest.mark.parametrize(
    "difference",
    [{"amount": 999}, {"transfer_group": "order-2"}, {"transfer_group": None}, {"source_transaction": "ch_1"}],
    ids=["amount", "group", "no group", "charge"],
)
def test_what_differs_and_bears_no_mark_is_somebody_elses(db: Database, difference: dict[str, Any]) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    other = transfer_object(leased, "tr_hand", **{"metadata": None, "transfer_group": "order-1", **difference})
    assert record_one(db, transfers_found(leased, other))["verdict"] == "absent"


@pytest.mark.parametrize(
    ("found", "why"),
    [(None, "could not be read"), ([{"id": "tr_1"}], "cannot be read"), ([5], "cannot be read")],
    ids=["incomplete", "strange", "no object"],
)
def test_a_list_that_cannot_be_read_proves_nothing(db: Database, found: list[object] | None, why: str) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    assert record_one(db, report(leased, http_status=200, found=found))["verdict"] == "unclear"

    held = transfer(db, transfer_id)
    assert why in held["failure_message"]
    assert (held["call_unknown"], held["call_absent_at"]) == (True, None)


def test_a_list_with_one_transfer_twice_proves_nothing(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)
    ours = transfer_object(leased)
    assert record_one(db, transfers_found(leased, ours, ours))["verdict"] == "unclear"


def test_a_refused_look_says_nothing_of_the_row(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)
    assert record_one(db, refusal(leased, 404, "resource_missing"))["verdict"] == "unclear"
    assert transfer(db, transfer_id)["status"] == "pending"


def test_the_proof_of_a_lost_worker_is_looked_up(db: Database) -> None:
    leased = claimed_send(db)
    lapse_lease(db, leased["id"])
    look(db, leased["id"])

    recorded = record_one(db, sent(leased))

    assert (recorded["result"], recorded["verdict"]) == ("stale", "succeeded")
    held = transfer(db, leased["id"])
    assert (held["call_unknown"], held["call_absent_at"], held["status"]) == (True, None, "pending")
    found = claim_send_again(db, leased["id"])
    record_one(db, transfers_found(found, transfer_object(found)))
    assert transfer(db, leased["id"])["stripe_transfer_id"] == "tr_1"


def test_a_second_transfer_that_a_lost_worker_proves_is_shown(db: Database) -> None:
    leased = claimed_send(db)
    lapse_lease(db, leased["id"])
    look(db, leased["id"])
    record_one(db, sent(claim_send_again(db, leased["id"])))

    assert record_one(db, sent(leased, "tr_second"))["verdict"] == "moved_twice"
    assert attempts(db, leased["id"])[-1]["disposition"] == "late"


def test_reversals_and_sends_are_reported_apart(db: Database) -> None:
    outcome = sent(claimed_send(db))
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        call(db, "record_reversal_outcomes", p_outcomes=Jsonb([outcome]))
    assert refused.value.sqlstate == "22023"


# --- refunds


def test_a_refund_before_the_first_call_ends_the_transfer_and_nothing_is_sent(db: Database) -> None:
    created = create_transfer(db)

    (ended,) = request_reversal(db)

    assert (ended["id"], ended["status"]) == (created["id"], "permanently_failed")
    assert (ended["failure_code"], ended["reversal_request_id"]) == ("refunded_before_transfer", "re_1")
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]
    assert claim_sends(db) == []


def test_a_refund_of_a_refused_transfer_ends_it_at_once(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, refusal(leased))

    (ended,) = request_reversal(db)

    assert (ended["status"], ended["failure_code"]) == ("permanently_failed", "refunded_before_transfer")


def test_a_refund_in_flight_is_kept_and_taken_when_the_answer_comes(db: Database) -> None:
    leased = claimed_send(db)
    assert request_reversal(db) == []
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]

    recorded = record_one(db, sent(leased))

    assert (recorded["verdict"], recorded["status"]) == ("succeeded", "reversal_pending")
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]
    assert steps(db, leased["id"]) == ["pending", "completed", "reversal_pending"]
    (back,) = claim(db)
    assert (back["action"], back["stripe_transfer_id"], back["amount"]) == ("reverse", "tr_1", 1000)
    record_one(db, success(back))
    assert transfer(db, leased["id"])["status"] == "reversed"


@pytest.mark.parametrize("end", ["refused", "not sent", "throttled"])
def test_a_refund_in_flight_ends_what_was_not_paid(db: Database, end: str) -> None:
    leased = claimed_send(db)
    request_reversal(db)

    outcome = {
        "refused": refusal(leased),
        "not sent": report(leased, sent=False),
        "throttled": refusal(leased, 429, "rate_limit"),
    }[end]
    assert record_one(db, outcome)["status"] == "permanently_failed"

    ended = transfer(db, leased["id"])
    assert (ended["failure_code"], ended["reversal_request_id"]) == ("refunded_before_transfer", "re_1")
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]


def test_after_a_refund_an_unknown_send_is_only_looked_for_until_it_is_quiet(db: Database) -> None:
    transfer_id = unknown_send(db)
    request_reversal(db)

    look(db, transfer_id)
    held = transfer(db, transfer_id)
    assert (held["status"], held["call_unknown"]) == ("pending", True)
    assert held["next_retry_at"] == held["call_last_sent_at"] + timedelta(hours=1)
    look(db, transfer_id)  # however often it is looked for before
    pass_time(db, transfer_id, "1 hour")
    look(db, transfer_id)

    ended = transfer(db, transfer_id)
    assert (ended["status"], ended["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]
    assert [attempt["action"] for attempt in attempts(db, transfer_id)] == ["send", *["look_up_transfer"] * 3]


def test_after_a_refund_an_unknown_send_that_is_found_goes_back(db: Database) -> None:
    transfer_id = unknown_send(db)
    request_reversal(db)
    leased = claim_send_again(db, transfer_id)

    assert record_one(db, transfers_found(leased, transfer_object(leased)))["status"] == "reversal_pending"
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]


@pytest.mark.parametrize(
    ("found", "parked"),
    [
        pytest.param([{"metadata": {}}], "mismatch: ", id="somebody paid it by hand"),
        pytest.param([{}, {"transfer_id": "tr_2"}], "moved_twice: ", id="two of ours"),
    ],
)
def test_what_a_look_found_and_left_to_a_person_is_not_taken_for_unpaid(
    db: Database, found: list[Facts], parked: str
) -> None:
    leased = claimed_send(db)
    record_one(db, refusal(leased))
    looked = claim_send_again(db, leased["id"])
    there = {"transfer_group": "order-1"}
    record_one(db, transfers_found(looked, *(transfer_object(looked, **{**there, **each}) for each in found)))

    assert request_reversal(db) == []

    held = transfer(db, leased["id"])
    assert (held["status"], held["call_unknown"]) == ("failed", True)
    assert held["parked_reason"].startswith(parked)
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]


def test_what_stripe_knows_under_the_same_key_is_not_taken_for_unpaid(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, refusal(leased, error_type="idempotency_error"))

    assert request_reversal(db) == []

    held = transfer(db, leased["id"])
    assert (held["status"], held["call_unknown"]) == ("pending", True)
    assert held["parked_reason"].startswith("conflict: ")
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]


def test_a_lost_lease_after_a_refund_is_looked_for(db: Database) -> None:
    leased = claimed_send(db)
    lapse_lease(db, leased["id"])
    assert request_reversal(db) == []

    look(db, leased["id"])
    assert claim_send_again(db, leased["id"])["action"] == "look_up_transfer"


def test_a_refund_of_a_part_in_flight_is_taken_of_what_was_paid(db: Database) -> None:
    leased = claimed_send(db)
    assert request_parts(db, {"key-1": 300}) == []
    assert request_lines(db) == [("key-1", 300, 0, 300)]

    record_one(db, sent(leased))

    at_commit(db)
    assert [(each["status"], each["amount"]) for each in family(db, leased["id"])] == [
        ("completed", 700),
        ("reversal_pending", 300),
    ]
    assert request_lines(db) == [("key-1", 300, 300, 0)]


def test_a_refund_of_a_part_in_flight_leaves_the_rest_to_be_sent_with_a_key_of_its_own(db: Database) -> None:
    leased = claimed_send(db)
    request_parts(db, {"key-1": 300})
    record_one(db, refusal(leased))

    at_commit(db)
    assert [(each["status"], each["amount"]) for each in family(db, leased["id"])] == [
        ("failed", 700),
        ("permanently_failed", 300),
    ]
    look(db, leased["id"])
    again = claim_send_again(db, leased["id"])
    assert (again["amount"], again["idempotency_key"][-2:]) == (700, ":2")
    record_one(db, sent(again))
    assert [each["status"] for each in family(db, leased["id"])] == ["completed", "permanently_failed"]


def test_no_more_can_be_asked_of_what_is_in_flight_than_it_has(db: Database) -> None:
    leased = claimed_send(db)
    request_parts(db, {"key-1": 700})
    with pytest.raises(Exception, match="301 asked, 300 left"), db.transaction():
        request_parts(db, {"key-1": 301}, "re_2")
    request_parts(db, {"key-1": 300}, "re_2")
    assert request_reversal(db, p_reversal_request_id="re_3") == []
    assert request_lines(db, "re_3") == []

    record_one(db, sent(leased))

    taken = {each["reversal_request_id"]: each["amount"] for each in family(db, leased["id"])}
    assert taken == {"re_1": 700, "re_2": 300}


def test_of_several_sellers_each_is_taken_back_as_far_as_it_was_paid(db: Database) -> None:
    paid, flying, waiting = (create_transfer(db, n, p_order_id="order-1")["id"] for n in (1, 2, 3))
    first, second = claim_sends(db, limit=2)
    record_one(db, sent(first))

    request_reversal(db)

    states = {each["id"]: each["status"] for each in rows(db, "select * from marketplace.seller_transfers")}
    assert states == {paid: "reversal_pending", flying: "pending", waiting: "permanently_failed"}
    record_one(db, sent(second))
    assert transfer(db, flying)["status"] == "reversal_pending"
    assert request_lines(db) == [("key-1", 1000, 1000, 0), ("key-2", 1000, 1000, 0), ("key-3", 1000, 1000, 0)]


def test_a_transfer_created_after_its_order_was_refunded_is_never_sent(db: Database) -> None:
    create_transfer(db)
    request_reversal(db)
    late = create_transfer(db, 2, p_order_id="order-1")
    assert (late["status"], late["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    assert claim_sends(db) == []


def test_after_a_failover_a_refund_waits_for_a_quiet_look(db: Database) -> None:
    created = create_transfer(db)
    call(db, "look_up_first", p_reason="promoted")

    assert request_reversal(db) == []

    for passed, status in (("5 minutes", "pending"), ("1 hour", "permanently_failed")):
        since = "look_up_first_since = look_up_first_since - %s::interval"
        db.execute(f"update marketplace.stripe_control set {since}".encode(), [passed])
        look(db, created["id"])
        assert transfer(db, created["id"])["status"] == status
    assert transfer(db, created["id"])["failure_code"] == "refunded_before_transfer"


def test_a_look_that_began_before_the_proof_came_is_no_quiet_absence(db: Database) -> None:
    leased = claimed_send(db)
    lapse_lease(db, leased["id"])
    look(db, leased["id"])
    request_reversal(db)
    pass_time(db, leased["id"], "3 hours")
    looked = claim_send_again(db, leased["id"])
    assert record_one(db, sent(leased))["result"] == "stale"

    assert record_one(db, transfers_found(looked))["verdict"] == "absent"

    held = transfer(db, leased["id"])
    assert (held["status"], held["call_unknown"]) == ("pending", True)


def test_an_absence_of_a_send_is_dated_by_the_claim_of_the_look_up(db: Database) -> None:
    transfer_id = unknown_send(db)
    request_reversal(db)
    looked = claim_send_again(db, transfer_id)
    # Claimed a minute after the last call could have left, reported when more than an hour is over.
    db.execute(
        """
        update marketplace.seller_transfers
        set leased_at = leased_at - interval '2 hours', call_last_sent_at = leased_at - interval '121 minutes'
        where id = %s
        """,
        [transfer_id],
    )

    assert record_one(db, transfers_found(looked))["verdict"] == "absent"

    held = transfer(db, transfer_id)
    assert (held["status"], held["call_unknown"]) == ("pending", True)


def test_no_refusal_takes_back_a_proof_that_came_meanwhile(db: Database) -> None:
    lost = claimed_send(db)
    lapse_lease(db, lost["id"])
    look(db, lost["id"])
    again = claim_send_again(db, lost["id"])
    assert record_one(db, sent(lost))["verdict"] == "succeeded"

    assert record_one(db, refusal(again))["verdict"] == "transient"

    held = transfer(db, lost["id"])
    assert (held["status"], held["call_unknown"], held["call_generation"]) == ("pending", True, 1)
    assert claim_send_again(db, lost["id"])["action"] == "look_up_transfer"


def test_after_a_failover_what_is_found_is_believed_when_it_is_quiet(db: Database) -> None:
    transfer_id = unknown_send(db)
    call(db, "look_up_first", p_reason="promoted")
    for passed, verdict in (("5 minutes", "unclear"), ("1 hour", "succeeded")):
        since = "look_up_first_since = look_up_first_since - %s::interval"
        db.execute(f"update marketplace.stripe_control set {since}".encode(), [passed])
        leased = claim_send_again(db, transfer_id)
        assert record_one(db, transfers_found(leased, transfer_object(leased)))["verdict"] == verdict


def test_a_transfer_that_is_found_and_was_reversed_meanwhile_is_not_taken_for_paid(db: Database) -> None:
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)

    record_one(db, transfers_found(leased, transfer_object(leased, amount_reversed=300)))

    rows_of_it = family(db, transfer_id)
    assert [(each["status"], each["amount"]) for each in rows_of_it] == [("completed", 700), ("reversal_pending", 300)]
    (looked,) = claim(db)
    assert (looked["id"], looked["action"]) == (rows_of_it[1]["id"], "look_up_reversals")


def test_a_transfer_of_the_key_that_no_row_here_knows_of_is_a_persons(db: Database) -> None:
    """A lost history sent something beside this one, for a refund that was withdrawn."""
    transfer_id = unknown_send(db)
    leased = claim_send_again(db, transfer_id)
    beside = {"seller_transfers_identity": "transfer:again:db:5:key-1:re_1:1", "transfer_key": "key-1"}

    recorded = record_one(
        db, transfers_found(leased, transfer_object(leased, "tr_beside", amount=300, metadata=beside))
    )

    assert recorded["verdict"] == "mismatch"
    assert "tr_beside" in transfer(db, transfer_id)["parked_reason"]


def test_that_a_key_of_nobody_knows_whom_finds_nothing_proves_nothing(db: Database) -> None:
    """A restricted key may not say whose it is, and of another account's transfers the list is empty."""
    transfer_id = unknown_send(db)
    db.execute("update marketplace.runners set stripe_account = null")
    leased = claim_send_again(db, transfer_id)
    assert record_one(db, transfers_found(leased))["verdict"] == "unclear"
    assert "may not say whose it is" in transfer(db, transfer_id)["failure_message"]

    other = claimed_send(db, 2)
    record_one(db, sent(other))  # Stripe knows what is ours

    looked = claim_send_again(db, transfer_id)
    assert record_one(db, transfers_found(looked))["verdict"] == "absent"


def test_what_somebody_else_took_of_it_all_is_not_paid_again_for_a_request_that_was_withdrawn(db: Database) -> None:
    transfer_id = unknown_send(db)
    call(db, "request_reversal", p_order_id="order-1", p_reversal_request_id="re_1")
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="it failed")
    looked = claim_send_again(db, transfer_id)
    record_one(db, transfers_found(looked, transfer_object(looked, amount_reversed=1000)))

    (leased,) = claim(db)
    record_one(db, seen(leased, foreign(leased, "trr_1", 1000)))

    (row_of_it,) = family(db, transfer_id)
    assert (row_of_it["status"], row_of_it["reversal_request_id"]) == ("reversed", "elsewhere:tr_1:1000")
    assert value(db, "select count(*) from marketplace.seller_transfers where compensates is not null") == 0


def test_whose_a_key_is_is_found_without_reading_the_history_from_its_beginning(db: Database) -> None:
    def readings() -> object:
        return value(db, "select pg_stat_get_xact_numscans('marketplace.transfer_attempts'::regclass)")

    register(db, "worker-1")
    db.execute("update marketplace.runners set stripe_account = null")
    with db.transaction():
        before = readings()
        assert value(db, "select marketplace._is_key_known('worker-1')") is False
        assert readings() == before
    record_one(db, sent(claimed_send(db)))
    assert value(db, "select marketplace._is_key_known('worker-1')") is True


@pytest.mark.parametrize("was_reversed", [True, False])
def test_what_a_lost_history_took_for_a_request_withdrawn_since_is_given_back(db: Database, was_reversed: bool) -> None:
    transfer_id = unknown_send(db)
    call(db, "request_reversal", p_order_id="order-1", p_reversal_request_id="re_1", p_amount=300)
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="it failed")
    looked = claim_send_again(db, transfer_id)
    record_one(db, transfers_found(looked, transfer_object(looked, amount_reversed=300)))

    taken, elsewhere = (each for each in family(db, transfer_id) if each["status"] == "reversal_pending")
    assert (taken["reversal_request_id"], taken["amount"], elsewhere["amount"]) == ("re_1", 300, 300)
    assert request_lines(db) == [("key-1", 300, 300, 0)]
    database = value(db, "select database_id::text from marketplace.stripe_control")
    identity = f"reversal:{database}:{taken['stripe_transfer_id']}:re_1:1" if was_reversed else "somebody else's"
    for _ in range(2):
        (leased,) = claim(db)
        assert leased["action"] == "look_up_reversals"
        made = foreign(leased, "trr_1", 300, metadata={"seller_transfers_identity": identity})
        record_one(db, seen(leased, made))

    given_back = rows(db, "select amount from marketplace.seller_transfers where compensates is not null")
    assert given_back == ([{"amount": 300}] if was_reversed else [])
    held = value(
        db,
        "select sum(amount) from marketplace.seller_transfers as t where status = 'completed'"
        " and not exists (select from marketplace.seller_transfers as s where s.successor_of = t.id)",
    )
    assert held == 700
