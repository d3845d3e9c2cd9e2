"""db/functions/reopen.sql: a person lets a row go on that was given up."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.look_ups import seen
from tests.support.raw_transfers import add_transfer
from tests.support.transfers import (
    at_commit,
    call,
    claim,
    claim_again,
    claimed_call,
    create_transfer,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_lines,
    request_parts,
    request_reversal,
    status_log,
    success,
    transfer,
)
from tests.support.withdrawals import sent_beside, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def reopen(db: Database, transfer_id: int, stripe_id: str | None = None) -> DictRow:
    said = {"p_id": transfer_id, "p_reason": "ticket 42", "p_stripe_transfer_id": stripe_id}
    (row,) = call(db, "reopen", **said)
    return row


def refused(db: Database, *arguments: Any) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        reopen(db, *arguments)
    assert caught.value.diag.message_hint
    return caught.value.diag


def dead_reversal(db: Database) -> DictRow:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing"))
    return leased


def test_a_reversal_that_was_given_up_goes_on_with_a_look(db: Database) -> None:
    dead = dead_reversal(db)

    successor = reopen(db, dead["id"])

    at_commit(db)
    assert (successor["status"], successor["successor_of"], successor["amount"]) == (
        "reversal_pending",
        dead["id"],
        1000,
    )
    assert (successor["reversal_request_id"], successor["call_part"]) == ("re_1", 1)
    births = status_log(db, successor["id"])
    assert all("reopened by postgres: ticket 42" in entry["reason"] for entry in births)
    assert f"transfer {successor['id']} takes over" in status_log(db, dead["id"])[-1]["reason"]
    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    record_one(db, seen(looked))
    (posted,) = claim(db)
    # The answer to the key before is stored at Stripe.
    assert posted["idempotency_key"] == dead["idempotency_key"][:-1] + "2"
    assert record_one(db, success(posted))["status"] == "reversed"


def test_what_is_on_its_way_again_is_no_longer_missed_by_a_request_for_everything(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    call(db, "give_up", p_id=part["id"], p_reason="for now")
    request_reversal(db, p_reversal_request_id="re_2")
    assert request_lines(db, "re_2") == [("key-1", 1000, 600, 400)]

    reopen(db, part["id"])

    at_commit(db)
    assert request_lines(db, "re_2") == [("key-1", 1000, 1000, 0)]
    assert value(db, "select count(*) from marketplace.needs_attention") == 0
    assert value(db, "select not_given_back from marketplace.seller_debts") == 1000
    # Its own request fails: the other one wants it all the same.
    withdraw(db)
    wanted = "select sum(amount) from marketplace.seller_transfers where status = 'reversal_pending'"
    assert value(db, f"{wanted} and reversal_request_id = 're_2'") == 1000


def test_one_row_has_one_successor(db: Database) -> None:
    dead = dead_reversal(db)
    successor = reopen(db, dead["id"])

    diag = refused(db, dead["id"])

    assert (diag.sqlstate, diag.table_name) == ("ST002", "seller_transfers")
    assert f"{successor['id']} has taken over" in str(diag.message_hint)


def test_what_was_given_up_for_want_of_its_id_goes_on_with_it(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (dead,) = request_reversal(db)
    assert claim(db) == []
    record_transfer(db, 2)

    assert refused(db, dead["id"]).sqlstate == "22004"
    assert refused(db, dead["id"], "tr_2").sqlstate == "ST003"
    successor = reopen(db, dead["id"], "tr_1")

    at_commit(db)
    assert (successor["stripe_transfer_id"], successor["status"]) == ("tr_1", "reversal_pending")
    record_one(db, seen(claim_again(db, successor["id"])))
    (posted,) = claim(db)
    assert (posted["stripe_transfer_id"], posted["action"]) == ("tr_1", "reverse")
    # Nobody else is that transfer from then on.
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        record_transfer(db, 3, p_stripe_transfer_id="tr_1")
    assert caught.value.sqlstate == "ST003"


def test_a_paid_row_without_an_id_is_given_one(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (part,) = request_parts(db, {"key-1": 400})
    root_id = part["root_id"]
    record_transfer(db, 2)

    assert refused(db, root_id).sqlstate == "22004"
    assert refused(db, root_id, "tr_2").sqlstate == "ST003"
    held = reopen(db, root_id, "tr_1")

    at_commit(db)
    assert (held["id"], held["status"], held["stripe_transfer_id"]) == (root_id, "completed", "tr_1")
    assert transfer(db, part["id"])["stripe_transfer_id"] == "tr_1"
    assert "ticket 42" in status_log(db, root_id)[-1]["reason"]
    assert refused(db, root_id, "tr_1").sqlstate == "ST002"


def test_each_part_of_a_transfer_without_an_id_is_given_the_same(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (one,) = request_parts(db, {"key-1": 400})
    (two,) = request_parts(db, {"key-1": 600}, "re_2")
    assert claim(db) == []
    assert claim(db) == []

    first = reopen(db, one["id"], "tr_1")
    other = refused(db, two["id"], "tr_2")
    assert (other.sqlstate, other.column_name) == ("ST003", "stripe_transfer_id")
    successors = [first, reopen(db, two["id"], "tr_1")]

    at_commit(db)
    assert [each["stripe_transfer_id"] for each in successors] == ["tr_1", "tr_1"]
    assert {each[0] for each in story(db)} == {400, 600}


def test_what_a_withdrawal_left_without_an_id_is_given_one(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    request_reversal(db)
    assert claim(db) == []
    _, successor = withdraw(db)

    assert reopen(db, successor["id"], "tr_1")["stripe_transfer_id"] == "tr_1"
    at_commit(db)


def test_a_send_that_was_given_up_goes_on_under_its_own_name(db: Database) -> None:
    row_id = create_transfer(db)["id"]
    for step in (
        "status = 'failed', call_params = '{\"amount\": 1000}', call_generation = 6, call_last_sent_at = now()",
        "status = 'permanently_failed', next_retry_at = null, failure_code = 'transient', failure_message = 'No.'",
    ):
        db.execute(f"update marketplace.seller_transfers set {step}".encode())

    successor = reopen(db, row_id)

    at_commit(db)
    assert (successor["status"], successor["made_for"], successor["call_generation"]) == ("pending", None, 7)
    assert (successor["call_params"], successor["call_unknown"]) == (None, False)
    assert refused(db, row_id).sqlstate == "ST002"


def test_a_send_that_is_reopened_for_a_refunded_order_is_not_made(db: Database) -> None:
    row_id = add_transfer(db, "permanently_failed")
    record_transfer(db, 2, p_order_id="order-1")
    request_reversal(db)

    successor = reopen(db, row_id)

    assert (successor["status"], successor["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    at_commit(db)


def test_what_was_sent_beside_the_first_goes_on_like_any_other(db: Database) -> None:
    row = sent_beside(db)
    assert (row["status"], row["made_for"]) == ("reversal_pending", "re_1:1")
    for _ in range(2):
        call(db, "give_up", p_id=row["id"], p_reason="ticket 41")

        row = reopen(db, row["id"])

        at_commit(db)
        assert (row["status"], row["stripe_transfer_id"]) == ("reversal_pending", "tr_beside")


def test_what_need_not_or_must_not_be_reopened_is_refused(db: Database) -> None:
    cases = {
        "completed": (record_transfer(db, 1)["id"], "ST002"),
        "reversal_pending": (refunded_transfer(db, 2)["id"], "ST002"),
        "pending": (create_transfer(db, 3)["id"], "ST002"),
    }
    create_transfer(db, 4)
    (unpaid,) = request_reversal(db, 4)
    cases["refunded before it was paid"] = (unpaid["id"], "ST002")
    for case, (row_id, sqlstate) in cases.items():
        assert (case, refused(db, row_id).sqlstate) == (case, sqlstate)
    assert "withdraw_reversal_request" in str(refused(db, unpaid["id"]).message_hint)


def test_an_id_for_a_row_that_has_one_is_another_transfer(db: Database) -> None:
    dead = dead_reversal(db)
    assert refused(db, dead["id"], "tr_9").sqlstate == "ST003"
    assert reopen(db, dead["id"], "tr_1")["stripe_transfer_id"] == "tr_1"
    unpaid = add_transfer(db, "permanently_failed")
    assert refused(db, unpaid, "tr_9").sqlstate == "ST003"


def test_a_part_goes_on_as_one_of_the_transfer_it_was_split_from_only(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (part,) = request_parts(db, {"key-1": 300})
    claim(db)
    record_transfer(db, p_stripe_transfer_id="tr_1")

    assert refused(db, part["id"], "tr_2").sqlstate == "ST003"

    assert reopen(db, part["id"], "tr_1")["stripe_transfer_id"] == "tr_1"
    at_commit(db)
