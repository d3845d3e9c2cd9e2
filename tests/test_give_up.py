"""db/functions/give_up.sql: a person ends what is tried, never what may have been made."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.look_ups import pass_time
from tests.support.raw_transfers import run
from tests.support.transfers import (
    at_commit,
    call,
    claim,
    claim_again,
    claim_send_again,
    claim_sends,
    claimed_call,
    claimed_send,
    contents,
    create_transfer,
    lapse_lease,
    nothing_found,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_lines,
    request_parts,
    sent,
    status_log,
    success,
    timeout,
    transfer,
    transfers_found,
)
from tests.support.withdrawals import born_of, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def give_up(db: Database, transfer_id: int) -> DictRow:
    (row,) = call(db, "give_up", p_id=transfer_id, p_reason="ticket 42")
    return row


def refused(db: Database, transfer_id: int) -> psycopg.errors.Diagnostic:
    """Refused, in words, and nothing has changed."""
    before = contents(db)
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        give_up(db, transfer_id)
    assert caught.value.diag.message_hint
    assert contents(db) == before
    return caught.value.diag


# Rows of every descent on their way back, or to be sent


def whole(db: Database) -> int:
    return int(refunded_transfer(db)["id"])


def part(db: Database) -> int:
    record_transfer(db)
    (slice_,) = request_parts(db, {"key-1": 400})
    return int(slice_["id"])


def reopened_reversal(db: Database) -> int:
    dead = claimed_call(db)
    record_one(db, refusal(dead, 404, "resource_missing"))
    (successor,) = call(db, "reopen", p_id=dead["id"], p_reason="it is there")
    return int(successor["id"])


def given_back_and_refunded(db: Database) -> int:
    record_one(db, sent(claim_send_again(db, given_back(db)), "tr_2"))
    call(db, "request_reversal", p_order_id="order-1", p_reversal_request_id="re_2")
    return born_of(db, "compensates")


def to_be_sent(db: Database) -> int:
    return int(create_transfer(db)["id"])


def given_back(db: Database) -> int:
    record_one(db, success(claimed_call(db)))
    withdraw(db)
    return born_of(db, "compensates")


def reopened_send(db: Database) -> int:
    dead = claimed_send(db)
    record_one(db, refusal(dead, 400))
    call(db, "give_up", p_id=dead["id"], p_reason="for now")
    (successor,) = call(db, "reopen", p_id=dead["id"], p_reason="now")
    return int(successor["id"])


def refused_once(db: Database) -> int:
    leased = claimed_send(db)
    record_one(db, refusal(leased, 400, "balance_insufficient"))
    return int(leased["id"])


REVERSALS = (whole, part, reopened_reversal, given_back_and_refunded)
SENDS = (to_be_sent, given_back, reopened_send, refused_once)

# What may have been made, or may be under way, and the column that says so.
DOUBTS = {
    "a live lease": (
        "lease_token = gen_random_uuid(), leased_at = now(), lease_expires_at = clock_timestamp() + interval '1 min',"
        " leased_by = 'worker-1', lease_action = 'look_up_reversals'",
        "lease_token",
    ),
    "a lapsed lease": (
        "lease_token = gen_random_uuid(), leased_at = now() - interval '1 h',"
        " lease_expires_at = now() - interval '1 s', leased_by = 'worker-1', lease_action = 'look_up_reversals'",
        "lease_token",
    ),
    "an unknown outcome": ("call_unknown = true", "call_unknown"),
    "parked": ("parked_reason = 'mismatch: look'", "parked_reason"),
    "parked and unknown": ("call_unknown = true, parked_reason = 'moved_twice: look'", "parked_reason"),
    "a key that was given out": ("call_params = jsonb_build_object('amount', amount)", "call_absent_at"),
    "a key that was given out after the last look": (
        "call_params = jsonb_build_object('amount', amount), call_absent_at = now(), call_last_sent_at = now()",
        "call_absent_at",
    ),
}


@pytest.mark.parametrize("descent", [*REVERSALS, *SENDS], ids=lambda each: each.__name__)
def test_only_what_is_certain_not_to_be_made_is_given_up(db: Database, descent: Callable[[Database], int]) -> None:
    row_id = descent(db)
    doubts = dict(DOUBTS)
    if descent in REVERSALS:
        doubts["held by Stripe"] = ("stripe_reversal_id = 'trr_9'", "stripe_reversal_id")
    for doubt, (change, column) in doubts.items():
        with db.transaction(force_rollback=True):
            run(db, f"update marketplace.seller_transfers set {change} where id = {row_id}")
            diag = refused(db, row_id)
            assert (doubt, diag.sqlstate, diag.column_name) == (doubt, "ST002", column)
            assert f"retry_now(p_id => {row_id}" in str(diag.message_hint)
    before = transfer(db, row_id)

    ended = give_up(db, row_id)

    at_commit(db)
    assert (ended["status"], ended["failure_code"]) == ("permanently_failed", "given_up")
    assert ended["failure_message"] == "Given up by postgres: ticket 42"
    assert (ended["completed_at"], ended["amount"]) == (before["completed_at"], before["amount"])
    assert status_log(db, row_id)[-1]["reason"] == "Given up by postgres: ticket 42"
    assert status_log(db, row_id)[-1]["from_status"] == ("reversal_pending" if descent in REVERSALS else "failed")
    assert claim(db) == claim_sends(db) == []
    # A person decided: nobody is asked to decide again.
    assert [line["transfer_id"] for line in call(db, "read_needs_attention")] == []


def test_what_may_have_been_sent_by_a_lost_history_is_looked_for_until_it_is_quiet(db: Database) -> None:
    row_id = whole(db)
    call(db, "look_up_first", p_reason="a standby was promoted")
    assert refused(db, row_id).column_name == "call_absent_at"
    run(db, "update marketplace.stripe_control set look_up_first_since = look_up_first_since - interval '50 minutes'")
    with db.transaction(force_rollback=True):
        record_one(db, nothing_found(claim_again(db, row_id)))
        assert "is too early" in str(refused(db, row_id).message_hint)
        run(db, "update marketplace.stripe_control set look_up_first_since = now() - interval '70 minutes'")
        pass_time(db, row_id, "20 minutes")
        assert refused(db, row_id).column_name == "call_absent_at", "the look was too early"
    run(db, "update marketplace.stripe_control set look_up_first_since = look_up_first_since - interval '20 minutes'")
    record_one(db, nothing_found(claim_again(db, row_id)))
    assert give_up(db, row_id)["status"] == "permanently_failed"


@pytest.mark.parametrize("is_send", [False, True])
def test_an_unknown_outcome_is_given_up_after_the_look_that_the_hint_names(db: Database, is_send: bool) -> None:
    leased = claimed_send(db) if is_send else claimed_call(db)
    row_id = leased["id"]
    record_one(db, timeout(leased))
    hint = str(refused(db, row_id).message_hint)
    assert f"retry_now(p_id => {row_id}, p_reason => '…'), then wait for the look-up" in hint
    assert "is too early" in hint

    pass_time(db, row_id, "1 hour 1 second")
    assert "is too early" not in str(refused(db, row_id).message_hint)
    call(db, "retry_now", p_id=row_id, p_reason="to give it up")
    (looked,) = claim_sends(db) if is_send else claim(db)
    assert "Wait for the outcome of worker-1" in str(refused(db, row_id).message_hint)
    record_one(db, transfers_found(looked) if is_send else nothing_found(looked))

    assert give_up(db, row_id)["status"] == "permanently_failed"


def test_a_worker_that_never_reported_keeps_its_row_from_being_given_up(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    assert refused(db, leased["id"]).column_name == "lease_token"


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("completed", "request_reversal()"),
        ("reversed", "withdraw_reversal_request()"),
        ("permanently_failed", "reopen("),
    ],
)
def test_of_what_is_not_open_the_hint_says_what_can_be_done(db: Database, status: str, names: str) -> None:
    if status == "completed":
        row_id = record_transfer(db)["id"]
    elif status == "reversed":
        row_id = record_one(db, success(claimed_call(db)))["id"]
    else:
        row_id = whole(db)
        give_up(db, row_id)
    diag = refused(db, row_id)
    assert (diag.sqlstate, diag.column_name) == ("ST002", "status")
    assert names in str(diag.message_hint)


def test_a_reversal_that_was_given_up_stays_what_its_request_took(db: Database) -> None:
    row_id = part(db)
    give_up(db, row_id)
    assert request_lines(db) == [("key-1", 400, 400, 0)]
    assert story(db) == [(600, "completed", None), (400, "permanently_failed", None)]
    assert value(db, "select count(*) from marketplace.needs_attention") == 0

    (successor,) = call(db, "reopen", p_id=row_id, p_reason="he pays after all")

    assert (successor["status"], successor["reversal_request_id"]) == ("reversal_pending", "re_1")


def test_what_a_withdrawn_request_took_and_a_person_gave_up_is_the_sellers_again(db: Database) -> None:
    row_id = whole(db)
    give_up(db, row_id)
    withdraw(db)
    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_what_was_not_reversed_elsewhere_is_the_sellers_again(db: Database) -> None:
    """A row that is evidence only was never asked back by anybody."""
    record_transfer(db)
    value(db, "select marketplace._adopt_elsewhere('tr_1', 1000, 1000)")
    (row_id,) = (each["id"] for each in claim(db))
    record_one(db, timeout({**transfer(db, row_id), "action": "look_up_reversals"}))
    assert refused(db, row_id).column_name == "call_absent_at"
    run(db, f"update marketplace.seller_transfers set call_absent_at = now() where id = {row_id}")

    give_up(db, row_id)

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_proof_that_comes_later_makes_a_successor(db: Database) -> None:
    """Who gave it up was wrong: the reversal is found."""
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    looked = claim_again(db, leased["id"])
    pass_time(db, leased["id"], "2 hours")
    record_one(db, timeout(looked))
    pass_time(db, leased["id"], "2 hours")
    record_one(db, nothing_found(claim_again(db, leased["id"])))
    give_up(db, leased["id"])

    assert record_one(db, success(leased))["result"] == "stale"

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "reversal_pending", "succeeds 1")]
