"""Successors: rows that take over from one that ended, by late evidence or a withdrawal; and proofs of payment."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.evidence import Shown, send_identity, shown, tell
from tests.support.look_ups import ours, pass_time, seen
from tests.support.raw_transfers import insert_transfer, outcome, update_transfer
from tests.support.transfers import (
    at_commit,
    attempts,
    call,
    claim,
    claim_again,
    claim_send_again,
    claimed_call,
    claimed_send,
    contents,
    create_transfer,
    lapse_lease,
    make_due,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_lines,
    request_parts,
    request_reversal,
    sent,
    status_log,
    success,
    transfer,
    transfers_found,
)
from tests.support.withdrawals import born_of, follow_up, sent_beside, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def dead_reversal(db: Database) -> DictRow:
    """The lost call of a row that was given up under another lease."""
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    make_due(db, lost["id"])
    (taken,) = claim(db, worker="worker-2")
    db.execute("update marketplace.seller_transfers set call_unknown = false, call_last_sent_at = null")
    assert record_one(db, refusal(taken, 404, "resource_missing"))["status"] == "permanently_failed"
    return lost


def test_late_success_of_a_reversal_is_looked_up_by_a_successor(db: Database) -> None:
    lost = dead_reversal(db)
    dead = transfer(db, lost["id"])

    recorded = record_one(db, success(lost))

    at_commit(db)
    assert (recorded["result"], recorded["verdict"]) == ("stale", "succeeded")
    successor = transfer(db, born_of(db, "successor_of"))
    assert (successor["status"], successor["call_unknown"]) == ("reversal_pending", True)
    same = (
        "stripe_transfer_id",
        "reversal_request_id",
        "call_part",
        "call_generation",
        "call_params",
        "call_minted_at",
    )
    assert [successor[name] for name in same] == [dead[name] for name in same]
    assert [entry["to_status"] for entry in status_log(db, successor["id"])] == ["completed", "reversal_pending"]
    assert all("late evidence" in entry["reason"] for entry in status_log(db, successor["id"]))
    assert "late evidence" in status_log(db, dead["id"])[-1]["reason"]
    looked = claim_again(db, successor["id"])
    assert looked["action"] == "look_up_reversals"
    assert looked["idempotency_key"] == lost["idempotency_key"]
    assert record_one(db, seen(looked, ours(db, looked)))["status"] == "reversed"


def test_late_success_of_taking_back_what_was_sent_beside_the_first_is_looked_up_as_well(db: Database) -> None:
    looked = claim_again(db, sent_beside(db)["id"])
    record_one(db, seen(looked, amount=400))
    lost = claim_again(db, looked["id"])
    assert lost["action"] == "reverse"
    lapse_lease(db, lost["id"])
    looked = claim_again(db, lost["id"])
    pass_time(db, lost["id"], "2 hours")
    record_one(db, seen(looked, amount=400))
    call(db, "give_up", p_id=lost["id"], p_reason="ticket 42")

    assert record_one(db, success(lost))["verdict"] == "succeeded"

    at_commit(db)
    found = f"select id from marketplace.seller_transfers where successor_of = {lost['id']}"
    assert claim_again(db, int(value(db, found)))["action"] == "look_up_reversals"


def test_what_late_evidence_proves_is_looked_for_and_no_second_one_is_made(db: Database) -> None:
    lost = dead_reversal(db)
    record_one(db, success(lost))
    looked = claim_again(db, born_of(db, "successor_of"))

    record_one(db, seen(looked))

    posted = claim_again(db, looked["id"])
    assert (posted["action"], posted["idempotency_key"]) == ("reverse", lost["idempotency_key"])


def test_late_success_where_another_row_took_over_is_for_a_person(db: Database) -> None:
    lost = dead_reversal(db)
    withdraw(db)

    assert record_one(db, success(lost))["verdict"] == "late_success"

    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_late_success_for_a_request_that_is_withdrawn_then_is_given_back(db: Database) -> None:
    lost = dead_reversal(db)
    record_one(db, success(lost))
    withdraw(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "reversal_pending", "succeeds 1")]
    looked = claim_again(db, born_of(db, "successor_of"))

    record_one(db, seen(looked, ours(db, looked)))
    follow_up(db, looked["id"])

    at_commit(db)
    assert story(db)[1:] == [(1000, "reversed", "succeeds 1"), (1000, "pending", "compensates 2")]
    assert transfer(db, born_of(db, "compensates"))["made_for"] == "re_1:1"


def test_a_row_that_was_succeeded_is_in_no_total(db: Database) -> None:
    refunded_transfer(db)
    withdraw(db)
    totals = [(each["status"], each["transfers"], each["amount"]) for each in call(db, "read_transfer_totals")]
    assert totals == [("completed", 1, 1000)]


@pytest.mark.parametrize("part", [400, 1000])
def test_a_family_adds_up_without_those_that_were_succeeded(db: Database, part: int) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": part})
    withdraw(db)
    at_commit(db)
    given_up = value(db, "select id from marketplace.seller_transfers where status = 'permanently_failed'")
    successor = transfer(db, born_of(db, "successor_of"))

    refused = {
        "a second": {"successor_of": successor["id"]},
        "of a stranger": {"successor_of": record_transfer(db, 2)["id"]},
        "of itself": {"successor_of": successor["root_id"]},
    }
    columns = {name: successor[name] for name in ("root_id", "completed_at", "stripe_transfer_id", "amount")}
    for descent in refused.values():
        if descent["successor_of"] == given_up:
            continue
        said = outcome(db, born, **columns, **descent, original_amount=part)
        assert said == "ST009", descent
    # Two rows never take over from one.
    assert outcome(db, born, **columns, successor_of=given_up, original_amount=part) == "23505"


def born(db: Database, **columns: Any) -> None:
    insert_transfer(db, status="completed", **columns)
    at_commit(db)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 999, "original_amount": 999},
        {"order_id": "order-2"},
        {"stripe_transfer_id": "tr_2"},
        {"destination_account": "acct_2"},
        {"source_charge": "ch_2"},
    ],
    ids=str,
)
def test_a_successor_has_what_its_predecessor_had(db: Database, changes: dict[str, Any]) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing"))
    dead = transfer(db, leased["id"])
    columns = {"root_id": dead["id"], "successor_of": dead["id"], "completed_at": dead["completed_at"]}
    right = {**columns, "stripe_transfer_id": "tr_1"}

    assert outcome(db, born, **right) == "passes"
    assert outcome(db, born, **{**right, **changes}) == "ST009"


def test_what_lives_has_no_successor(db: Database) -> None:
    taken = refunded_transfer(db)
    columns = {"root_id": taken["id"], "successor_of": taken["id"], "completed_at": taken["completed_at"]}
    assert outcome(db, born, **columns, stripe_transfer_id="tr_1") == "ST009"


def test_where_a_row_comes_from_never_changes(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    withdraw(db)
    compensation = born_of(db, "compensates")
    record_transfer(db, 2)
    request_reversal(db, 2)
    withdraw(db, 2)
    successor = born_of(db, "successor_of")
    stranger = record_transfer(db, 3)["id"]

    for row_id, change in (
        (compensation, f"compensates = {stranger}"),
        (compensation, "made_for = 're_1:2'"),
        (successor, f"successor_of = {stranger}"),
        (successor, "made_for = 're_1:2'"),
        (successor, "stripe_transfer_id = 'tr_other'"),
    ):
        assert (change, outcome(db, update_transfer, row_id, change)) == (change, "ST002")
    update_transfer(db, compensation, "stripe_transfer_group = 'order-1'")
    for group in ("'order-2'", "null"):
        assert outcome(db, update_transfer, compensation, f"stripe_transfer_group = {group}") == "ST002"


# Proofs of payment.

LEASED = (
    "lease_token = gen_random_uuid(), leased_at = clock_timestamp(), lease_expires_at = clock_timestamp(),"
    " leased_by = 'worker-1', lease_action = 'send'"
)
PAID = "status = 'completed', completed_at = clock_timestamp(), stripe_transfer_id = 'tr_1', next_retry_at = null"


def created(db: Database, of: DictRow, stripe_id: str = "tr_1", made_for: str | None = None) -> Shown:
    return shown(of, stripe_id, send_identity(db, "key-1", made_for))


def test_a_row_that_stripe_says_is_paid_is_looked_up_now(db: Database) -> None:
    row = create_transfer(db)
    update_transfer(db, row["id"], "next_retry_at = clock_timestamp() + interval '1 h', call_absent_at = now()")

    assert tell(db, "created", created(db, row)) == f"acted: tr_1 is looked up for transfer {row['id']}"

    held = transfer(db, row["id"])
    assert (held["status"], held["call_unknown"], held["call_absent_at"]) == ("pending", True, None)
    assert held["next_retry_at"] <= value(db, "select clock_timestamp()")
    # And a refund that comes now does not say that nothing was sent.
    assert request_reversal(db) == []


def test_while_the_row_is_leased_the_event_waits(db: Database) -> None:
    row = create_transfer(db)
    update_transfer(db, row["id"], LEASED)
    before = contents(db)
    for event, told in (("created", created(db, row)), ("reversed", {**created(db, row), "amount_reversed": 5})):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            tell(db, event, told)
        assert refused.value.sqlstate == "ST010"
    assert contents(db) == before


def test_a_row_that_is_known_to_be_paid_by_it_needs_nothing(db: Database) -> None:
    row = create_transfer(db)
    update_transfer(db, row["id"], PAID)
    before = contents(db)
    assert tell(db, "created", created(db, row)).startswith("nothing to do")
    assert contents(db) == before


def test_a_row_that_was_paid_by_another_was_paid_twice(db: Database) -> None:
    row = create_transfer(db)
    update_transfer(db, row["id"], PAID)

    for _ in range(2):
        assert tell(db, "created", created(db, row, "tr_2")).startswith("acted")

    (proof,) = attempts(db, row["id"])
    assert (proof["verdict"], proof["stripe_object_id"], proof["disposition"]) == ("moved_twice", "tr_2", "late")


def test_a_row_that_had_ended_unpaid_and_was_paid_goes_on_and_is_still_to_be_taken_back(db: Database) -> None:
    row = create_transfer(db)
    request_reversal(db)
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]

    assert tell(db, "created", created(db, row)) == f"acted: transfer {row['id']} had ended and was paid by tr_1"

    at_commit(db)
    successor = transfer(db, born_of(db, "successor_of"))
    assert (successor["status"], successor["call_unknown"], successor["made_for"]) == ("pending", True, None)
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]
    # Told again, it is the successor that is looked up.
    assert tell(db, "created", created(db, row)) == f"acted: tr_1 is looked up for transfer {successor['id']}"


def test_proof_for_a_row_that_another_goes_on_for_is_looked_up_by_that_one(db: Database) -> None:
    row = create_transfer(db)
    request_reversal(db)
    withdraw(db)

    said = tell(db, "created", created(db, row))

    assert said == f"acted: tr_1 is looked up for transfer {born_of(db, 'successor_of')}"
    assert attempts(db, row["id"]) == []
    assert story(db) == [(1000, "permanently_failed", None), (1000, "pending", "succeeds 1")]


def test_a_late_report_for_a_row_that_another_goes_on_for_is_looked_up_by_that_one(db: Database) -> None:
    leased = claimed_send(db)
    lapse_lease(db, leased["id"])
    record_one(db, transfers_found(claim_send_again(db, leased["id"])))
    pass_time(db, leased["id"], "2 hours")
    request_reversal(db)
    record_one(db, transfers_found(claim_send_again(db, leased["id"])))
    withdraw(db)
    successor = born_of(db, "successor_of")
    record_one(db, transfers_found(claim_send_again(db, successor)))  # young again, and absent

    assert record_one(db, sent(leased))["result"] == "stale"

    held = transfer(db, successor)
    assert (held["call_unknown"], held["call_absent_at"]) == (True, None)
    assert claim_send_again(db, successor)["action"] == "look_up_transfer"


def test_what_was_sent_beside_the_first_is_told_by_what_it_was_made_for(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    _, compensation = withdraw(db)

    assert tell(db, "created", created(db, compensation)).startswith("nothing to do: transfer")
    assert tell(db, "created", created(db, compensation, made_for="re_2:1")).startswith("nothing to do: tr_1 was not")
    said = tell(db, "created", created(db, compensation, "tr_again", made_for="re_1:1"))
    assert said == f"acted: tr_again is looked up for transfer {compensation['id']}"


def test_a_payment_that_is_not_ours_is_left_alone(db: Database) -> None:
    row = create_transfer(db)
    ours_elsewhere = send_identity(db, "key-1").replace("transfer:", "transfer:0")
    before = contents(db)
    for told in (
        shown(row, "tr_1", None),
        shown(row, "tr_1", ours_elsewhere),
        shown(row, "tr_1", send_identity(db, "key-1"), key="key-2"),
        {**created(db, row), "id": "ch_1"},
        {**created(db, row), "metadata": None},
        {},
    ):
        assert tell(db, "created", told).startswith("nothing to do")
    assert contents(db) == before
