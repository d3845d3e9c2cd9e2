"""Withdrawn requests and money that was, may have been, or is still to be sent."""

import json

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database
from tests.support.evidence import send_identity, shown, tell
from tests.support.look_ups import pass_time, seen
from tests.support.transfers import (
    at_commit,
    claim,
    claim_again,
    claim_post,
    claim_send_again,
    claim_sends,
    claimed_call,
    claimed_send,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    request_lines,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
    transfer,
    transfer_object,
    transfers_found,
)
from tests.support.withdrawals import born_of, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def send_successor(db: Database, stripe_id: str = "tr_again") -> DictRow:
    """Send what takes over from a row that was not paid: it is looked for before."""
    (looked,) = claim_sends(db)
    assert looked["action"] == "look_up_transfer"
    record_one(db, transfers_found(looked))
    (leased,) = claim_sends(db)
    assert leased["action"] == "send"
    assert record_one(db, sent(leased, stripe_id))["status"] == "completed"
    return leased


def test_a_compensation_is_sent_under_a_name_of_its_own(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    withdraw(db)

    (leased,) = claim_sends(db)

    assert (leased["action"], leased["amount"], leased["source_charge"]) == ("send", 1000, None)
    identity = send_identity(db, "key-1", "re_1:1")
    assert leased["idempotency_key"] == f"{identity}:1"
    assert leased["metadata"]["seller_transfers_identity"] == identity
    assert leased["metadata"]["transfer_key"] == "key-1"
    record_one(db, sent(leased, "tr_again"))
    at_commit(db)
    assert story(db) == [(1000, "reversed", None), (1000, "completed", "compensates 1")]


def test_what_is_paid_again_can_be_taken_again_and_given_back_again(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    withdraw(db)
    record_one(db, sent(claim_sends(db)[0], "tr_again"))

    (taken,) = request_reversal(db, p_reversal_request_id="re_2")
    (leased,) = claim(db)
    assert (leased["stripe_transfer_id"], leased["action"]) == ("tr_again", "reverse")
    record_one(db, success(leased))
    withdraw(db, request="re_2")
    (leased,) = claim_sends(db)
    record_one(db, sent(leased, "tr_thrice"))

    at_commit(db)
    assert leased["metadata"]["seller_transfers_identity"] == send_identity(db, "key-1", "re_2:1")
    assert story(db) == [
        (1000, "reversed", None),
        (1000, "reversed", "compensates 1"),
        (1000, "completed", "compensates 2"),
    ]
    assert taken["call_part"] == 1


def test_what_was_kept_from_being_paid_is_looked_for_and_sent_and_has_an_id_of_its_own(db: Database) -> None:
    create_transfer(db)
    request_parts(db, {"key-1": 400})
    record_one(db, sent(claim_sends(db)[0], "tr_1"))
    withdraw(db)

    leased = send_successor(db)

    at_commit(db)
    assert leased["metadata"]["seller_transfers_identity"] == send_identity(db, "key-1", "re_1:1")
    assert story(db) == [(600, "completed", None), (400, "permanently_failed", None), (400, "completed", "succeeds 2")]
    # Each goes back by its own id, and as a part of its own.
    taken = request_reversal(db, p_reversal_request_id="re_all")
    of_each = [(each["stripe_transfer_id"], each["amount"], each["call_part"]) for each in taken]
    assert of_each == [("tr_1", 600, 1), ("tr_again", 400, 2)]


def test_a_part_of_what_was_sent_beside_the_first_is_of_that_transfer(db: Database) -> None:
    create_transfer(db)
    request_reversal(db)
    withdraw(db)
    send_successor(db)
    (part,) = request_parts(db, {"key-1": 300}, "re_2")

    leased = claim_post(db, part["id"])

    at_commit(db)
    assert (part["stripe_transfer_id"], part["amount"], leased["stripe_transfer_id"]) == ("tr_again", 300, "tr_again")
    record_one(db, success(leased))
    assert story(db) == [(1000, "permanently_failed", None), (700, "completed", "succeeds 1"), (300, "reversed", None)]


def test_a_refund_withdrawn_while_the_send_is_unknown_lets_it_go_on(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    assert request_reversal(db) == []
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]

    assert withdraw(db) == []

    looked = claim_send_again(db, leased["id"])
    assert record_one(db, transfers_found(looked, transfer_object(leased)))["status"] == "completed"
    at_commit(db)
    assert story(db) == [(1000, "completed", None)]


def test_a_refund_withdrawn_after_the_send_was_found_and_is_on_its_way_back(db: Database) -> None:
    leased = claimed_send(db)
    request_reversal(db)
    assert record_one(db, sent(leased))["status"] == "reversal_pending"

    withdraw(db)

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]
    assert claim(db) == []


def test_what_a_withdrawn_refund_lets_go_of_in_flight_goes_to_one_of_everything(db: Database) -> None:
    leased = claimed_send(db)
    request_parts(db, {"key-1": 400})
    request_reversal(db, p_reversal_request_id="re_all")
    assert request_lines(db, "re_all") == [("key-1", 600, 0, 600)]
    withdraw(db)

    record_one(db, sent(leased))

    at_commit(db)
    assert story(db) == [(400, "reversal_pending", None), (600, "reversal_pending", None)]


def test_one_of_two_refunds_withdrawn_does_not_let_an_unknown_send_be_made_again(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))
    request_reversal(db)
    request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute")
    withdraw(db)

    record_one(db, transfers_found(claim_send_again(db, leased["id"])))
    assert claim_send_again(db, leased["id"])["action"] == "look_up_transfer"
    pass_time(db, leased["id"], "2 h")
    lapse_lease(db, leased["id"])
    record_one(db, transfers_found(claim_send_again(db, leased["id"])))

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None)]
    assert transfer(db, leased["id"])["reversal_request_id"] == "dp_1"


def test_a_row_that_another_took_over_from_is_not_asked_for(db: Database) -> None:
    leased = claimed_send(db)
    request_reversal(db)
    record_one(db, sent(leased))
    withdraw(db)

    (taken,) = request_reversal(db, p_reversal_request_id="re_all")

    assert taken["successor_of"] == leased["id"]
    assert request_lines(db, "re_all") == [("key-1", 1000, 1000, 0)]


def lost_send_of_a_refunded_order(db: Database) -> DictRow:
    """A send whose answer was lost, and which was not seen for so long that the row was given up as refunded."""
    lost = claimed_send(db)
    lapse_lease(db, lost["id"])
    request_reversal(db)
    record_one(db, transfers_found(claim_send_again(db, lost["id"])))
    pass_time(db, lost["id"], "2 h")
    record_one(db, transfers_found(claim_send_again(db, lost["id"])))
    assert transfer(db, lost["id"])["failure_code"] == "refunded_before_transfer"
    return lost


@pytest.mark.parametrize("witness", ["the worker", "an event"])
def test_a_send_that_proves_to_have_been_made_after_all_is_taken_back(db: Database, witness: str) -> None:
    lost = lost_send_of_a_refunded_order(db)

    if witness == "the worker":
        assert record_one(db, sent(lost))["result"] == "stale"
    else:
        tell(db, "created", shown(lost, "tr_1", send_identity(db, "key-1")))

    at_commit(db)
    successor = born_of(db, "successor_of")
    assert request_lines(db) == [("key-1", 1000, 0, 1000)]
    (looked,) = claim_sends(db)
    assert (looked["id"], looked["action"]) == (successor, "look_up_transfer")
    assert looked["idempotency_key"].startswith(send_identity(db, "key-1") + ":")
    assert record_one(db, transfers_found(looked, transfer_object(lost)))["status"] == "reversal_pending"
    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "reversal_pending", "succeeds 1")]
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]
    record_one(db, seen(claim_again(db, successor)))
    (posted,) = claim(db)
    assert (posted["action"], posted["stripe_transfer_id"]) == ("reverse", "tr_1")


def test_proof_of_a_send_that_two_refunds_had_ended_one_after_the_other_is_taken_back(db: Database) -> None:
    lost = lost_send_of_a_refunded_order(db)
    withdraw(db)
    request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute")
    assert [each[1] for each in story(db)] == ["permanently_failed", "permanently_failed"]

    record_one(db, sent(lost))

    at_commit(db)
    assert story(db)[2] == (1000, "pending", "succeeds 2")
    assert request_lines(db, "dp_1") == [("key-1", 1000, 0, 1000)]
    (looked,) = claim_sends(db)
    assert record_one(db, transfers_found(looked, transfer_object(lost)))["status"] == "reversal_pending"


def test_a_send_that_is_not_found_after_all_is_given_up_again(db: Database) -> None:
    record_one(db, sent(lost_send_of_a_refunded_order(db)))
    successor = born_of(db, "successor_of")

    record_one(db, transfers_found(claim_send_again(db, successor)))
    assert transfer(db, successor)["status"] == "pending"
    pass_time(db, successor, "2 h")
    looked = claim_send_again(db, successor)
    assert looked["action"] == "look_up_transfer"
    record_one(db, transfers_found(looked))

    at_commit(db)
    assert [each[1] for each in story(db)] == ["permanently_failed", "permanently_failed"]
    assert request_lines(db) == [("key-1", 1000, 1000, 0)]


def test_what_is_sent_beside_the_first_is_not_the_payment_the_app_records(db: Database) -> None:
    create_transfer(db)
    request_parts(db, {"key-1": 400})
    withdraw(db)

    record_transfer(db, p_amount=600)

    at_commit(db)
    assert story(db) == [(600, "completed", None), (400, "permanently_failed", None), (400, "pending", "succeeds 2")]
    send_successor(db)
    at_commit(db)


def test_what_took_over_from_a_paid_row_is_not_the_one_that_was_sent(db: Database) -> None:
    first = claimed_send(db)
    record_one(db, sent(first, "tr_1"))
    request_reversal(db)
    record_one(db, success(claim(db)[0]))
    withdraw(db)
    again = claim_sends(db)[0]
    record_one(db, sent(again, "tr_again"))
    request_reversal(db, p_reversal_request_id="re_2")
    withdraw(db, request="re_2")
    assert [each[1] for each in story(db)] == ["reversed", "permanently_failed", "completed"]

    told = [
        tell(db, "created", shown(first, "tr_1", send_identity(db, "key-1"))),
        tell(db, "created", shown(again, "tr_again", send_identity(db, "key-1", "re_1:1"))),
    ]

    assert [each.partition(":")[0] for each in told] == ["nothing to do", "nothing to do"]


def test_each_of_what_is_paid_again_at_once_is_asked_for_no_more_than_it_is(db: Database) -> None:
    record_transfer(db)
    for request, amount in (("re_1", 600), ("re_2", 400)):
        (taken,) = request_parts(db, {"key-1": amount}, request)
        record_one(db, success(claim_post(db, taken["id"]), f"trr_{amount}"))
    withdraw(db, request="re_1")
    withdraw(db, request="re_2")
    posted = claim_sends(db) + claim_sends(db)
    for leased in posted:
        record_one(db, timeout(leased))

    assert request_parts(db, {"key-1": 700}, "re_3") == []

    assert sorted(request_lines(db, "re_3")) == [("key-1", 300, 0, 300), ("key-1", 400, 0, 400)]
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        request_parts(db, {"key-1": 400}, "re_4")
    assert json.loads(refused.value.diag.message_detail or "")["left"] == 300
    for n, leased in enumerate(posted):
        looked = claim_send_again(db, leased["id"])
        record_one(db, transfers_found(looked, transfer_object(leased, f"tr_again{n}")))
    at_commit(db)
    stays = [(each[0], each[1]) for each in story(db)[2:] if each[1] != "reversal_pending"]
    assert stays == [(300, "completed")]
