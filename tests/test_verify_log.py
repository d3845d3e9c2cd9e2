"""verify_log(): silent on every history that the functions write, loud on every one that somebody has meddled with."""

from uuid import UUID

import psycopg
import pytest

from tests.support.databases import Database, rows, value
from tests.support.raw_transfers import PATHS, add_transfer, run
from tests.support.tampering import tamper
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claimed_call,
    claimed_send,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)

Found = tuple[int | None, str]


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def found(db: Database) -> list[Found]:
    """What verify_log() has to say, of which transfer."""
    problems = rows(db, "select * from marketplace.verify_log() order by transfer_id, log_id, attempt_id, problem")
    return [(problem["transfer_id"], problem["problem"]) for problem in problems]


def reversed_transfer(db: Database, n: int = 1) -> int:
    """Transfer number `n`, sent, refunded and taken back as trr_n. Returns its id."""
    leased = claimed_send(db, n)
    record_one(db, sent(leased))
    request_reversal(db, n)
    (leased,) = claim(db)
    record_one(db, success(leased))
    return int(leased["id"])


def test_a_history_of_everything_that_can_happen_bears_itself_out(db: Database) -> None:
    reversed_transfer(db, 1)
    # Lost by its worker, reported late, reported otherwise, refused, found to be split.
    leased = claimed_call(db, 2)
    lapse_lease(db, leased["id"])
    again = claim_again(db, leased["id"])
    record_one(db, timeout(leased))
    record_one(db, success(leased))
    assert again["action"] == "look_up_reversals"
    record_one(db, refusal(again, 429, "rate_limit"))
    record_transfer(db, 3)
    request_parts(db, {"key-3": 300}, "re_3", p_order_id="order-3")
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_3", p_reason="The refund failed.")
    for status in PATHS:
        add_transfer(db, status)
    assert value(db, "select count(*) from marketplace.transfer_attempts where disposition <> 'applied'") == 2
    assert found(db) == []


def test_an_entry_that_was_removed_leaves_a_gap(db: Database) -> None:
    transfer_id = reversed_transfer(db)
    gaps = {
        "from_status is null": "the log begins with pending instead of a birth",
        "from_status = 'pending'": "goes on from completed, but was pending",
        "from_status = 'completed'": "goes on from reversal_pending, but was completed",
        "to_status = 'reversed'": "the row is reversed, the log ends with reversal_pending",
        "true": "has no log",
    }
    for removed, problem in gaps.items():
        with db.transaction(force_rollback=True):
            tamper(db, f"delete from marketplace.transfer_status_log where {removed}")
            assert found(db) == [(transfer_id, problem)], removed


def test_a_status_that_was_changed_past_the_guards_is_not_in_the_log(db: Database) -> None:
    transfer_id = add_transfer(db, "completed")
    change = "failure_code = 'x', failure_message = 'x'"
    tamper(db, f"update marketplace.seller_transfers set status = 'permanently_failed', {change}")
    assert found(db) == [(transfer_id, "the row is permanently_failed, the log ends with completed")]


def test_an_entry_that_was_made_up_does_not_follow(db: Database) -> None:
    transfer_id = add_transfer(db, "reversal_pending")
    made_up = {
        "null, 'pending'": ["born a second time", "the row is reversal_pending, the log ends with pending"],
        "'completed', 'reversal_pending'": ["goes on from completed, but was reversal_pending"],
        "'reversal_pending', 'completed'": [
            "cannot go from reversal_pending to completed",
            "the row is reversal_pending, the log ends with completed",
        ],
        "'reversal_pending', 'elsewhere'": [
            "cannot go from reversal_pending to elsewhere",
            "the row is reversal_pending, the log ends with elsewhere",
        ],
        "'reversal_pending', 'reversal_pending'": [],  # a note
    }
    for entry, problems in made_up.items():
        with db.transaction(force_rollback=True):
            run(
                db,
                "insert into marketplace.transfer_status_log (transfer_id, from_status, to_status)"
                f" values ({transfer_id}, {entry})",
            )
            assert found(db) == [(transfer_id, problem) for problem in problems], entry


def test_the_matrix_decides_what_a_step_is(db: Database) -> None:
    transfer_id = add_transfer(db, "permanently_failed")
    tamper(
        db,
        "update marketplace.transfer_status_log set from_status = 'pending' where to_status = 'permanently_failed';"
        "delete from marketplace.transfer_status_log where to_status = 'failed'",
    )
    assert found(db) == [(transfer_id, "cannot go from pending to permanently_failed")]
    tamper(db, "delete from marketplace.transfer_status_log where to_status = 'pending'")
    tamper(db, "update marketplace.transfer_status_log set from_status = null")
    assert found(db) == [(transfer_id, "born permanently_failed")]


def test_an_entry_of_a_transfer_that_is_gone_is_found(db: Database) -> None:
    kept, gone = reversed_transfer(db, 1), reversed_transfer(db, 2)
    tamper(db, f"delete from marketplace.seller_transfers where id = {gone}")
    assert found(db) == [(gone, "there is no such transfer")] * 3  # the last entry, and two attempts
    assert kept != gone


def test_a_clock_may_be_set_back_by_an_hour_and_no_more(db: Database) -> None:
    transfer_id = add_transfer(db, "failed")
    last = "where to_status = 'failed'"
    tamper(db, f"update marketplace.transfer_status_log set logged_at = logged_at - interval '59 minutes' {last}")
    assert found(db) == []
    tamper(db, f"update marketplace.transfer_status_log set logged_at = logged_at - interval '2 minutes' {last}")
    ((of, problem),) = found(db)
    assert of == transfer_id
    assert problem.endswith("before the entry that it follows")
    tamper(db, f"update marketplace.transfer_status_log set logged_at = now() + interval '2 hours' {last}")
    ((of, problem),) = found(db)
    assert problem.startswith("logged in the future")


def test_money_that_left_a_family_is_missed(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 300})
    root_id = part["root_id"]
    tamper(db, f"update marketplace.seller_transfers set amount = 299 where id = {part['id']}")
    assert found(db) == [(root_id, "the transfer and its slices come to 999 instead of 1000")]


def test_a_lease_that_was_applied_twice_is_found(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased))
    tamper(
        db,
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        f" values ({leased['id']}, 'lost_lease', 'reverse', '{leased['lease_token']}', 'unknown', 'applied')",
    )
    assert found(db) == [(leased["id"], f"the lease {leased['lease_token']} was applied 2 times")]


def test_a_row_that_is_leased_again_under_a_token_of_before_is_found(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased))
    again = claim_again(db, leased["id"])
    run(db, f"update marketplace.seller_transfers set lease_token = '{leased['lease_token']}' where id = {again['id']}")
    assert found(db) == [(leased["id"], "the row is leased under a token that was applied already")]


def test_an_obligation_that_was_met_twice_is_found(db: Database) -> None:
    transfer_id = reversed_transfer(db)
    copied = "select transfer_id, kind, action, gen_random_uuid(), verdict, stripe_object_id, disposition"
    for action, words in {"send": "a payment's", "reverse": "a reversal's"}.items():
        with db.transaction(force_rollback=True):
            tamper(
                db,
                "insert into marketplace.transfer_attempts"
                " (transfer_id, kind, action, lease_token, verdict, stripe_object_id, disposition)"
                f" {copied} from marketplace.transfer_attempts where action = '{action}'",
            )
            assert found(db) == [(transfer_id, f"{words} success was applied 2 times")]


def test_a_success_that_its_row_does_not_have_is_found(db: Database) -> None:
    transfer_id = reversed_transfer(db)
    changes = {
        "stripe_reversal_id = 'trr_9'": ["Stripe made trr_1, and the row has trr_9"],
        "stripe_transfer_id = 'tr_9'": ["Stripe made tr_1, and the row has tr_9"],
        "status = 'reversal_pending', next_retry_at = now()": [
            "the row is reversal_pending, the log ends with reversed",
            "Stripe made trr_1, and the row is reversal_pending",
        ],
        "status = 'pending', next_retry_at = now(), completed_at = null, stripe_transfer_id = null,"
        " reversal_request_id = null, stripe_reversal_id = null": [
            "the row is pending, the log ends with reversed",
            "Stripe made tr_1, and the row is pending",
            "Stripe made trr_1, and the row is pending",
        ],
    }
    for change, problems in changes.items():
        with db.transaction(force_rollback=True):
            tamper(db, f"update marketplace.seller_transfers set {change}")
            assert found(db) == [(transfer_id, problem) for problem in problems], change


def test_a_report_that_was_forged_is_found(db: Database) -> None:
    leased = refunded_transfer(db)
    forged = {
        "'second_report', 'reverse', 'transient', 'applied', now(), now()": "a second report that was applied",
        "'lost_lease', 'reverse', 'unknown', 'stale', now(), now()": "a lost lease that was not applied",
    }
    for values, problem in forged.items():
        with db.transaction(force_rollback=True):
            run(
                db,
                "insert into marketplace.transfer_attempts (lease_token, transfer_id, kind, action, verdict,"
                f" disposition, started_at, finished_at) values ('{UUID(int=1)}', {leased['id']}, {values})",
            )
            assert found(db) == [(leased["id"], problem)]
    run(
        db,
        "insert into marketplace.transfer_attempts (lease_token, transfer_id, kind, action, verdict, disposition,"
        f" started_at, finished_at) values ('{UUID(int=1)}', {leased['id']}, 'call', 'reverse', 'transient',"
        " 'applied', now(), now() - interval '2 hours')",
    )
    ((of, problem),) = found(db)
    assert of == leased["id"]
    assert problem.startswith("begun at ")


def test_it_writes_nothing_and_so_runs_where_nothing_may_be_written(db: Database) -> None:
    reversed_transfer(db)
    with db.transaction(force_rollback=True):
        db.execute("set local transaction_read_only = on")
        assert found(db) == []
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), db.transaction():
            db.execute("create table public.written ()")
    assert transfer(db, reversed_transfer(db, 2))["status"] == "reversed"
