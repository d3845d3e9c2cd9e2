"""db/functions/outcomes.sql when several sessions report, claim and refund at once: lock order, and who wins."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from tests.support.databases import Connect, Database, value
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    lapse_lease,
    record,
    record_one,
    record_transfer,
    refunded_transfers,
    refusal,
    request_reversal,
    success,
    timeout,
)


def test_one_reversal_reported_for_two_rows_at_once_is_evidence_for_one(db: Database, connect: Connect) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            record_one(db, success(first, "trr_1"))
            waiting = pool.submit(record_one, other, success(second, "trr_1"))
            wait_until_blocked(connect(), other)
        with suppress(psycopg.errors.UniqueViolation):  # then the runner reports again
            waiting.result()
        assert record_one(other, success(second, "trr_1"))["verdict"] == "mismatch"


def test_a_report_waits_for_a_refund_that_holds_the_row_and_then_counts(db: Database, connect: Connect) -> None:
    leased = claimed_call(db)
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            call(db, "request_reversal", p_order_id="order-1", p_reversal_request_id="re_2")
            waiting = pool.submit(record_one, other, success(leased))
            wait_until_blocked(connect(), other)
        assert waiting.result()["result"] == "applied"


def test_of_a_takeover_and_a_report_at_once_the_first_wins(db: Database, connect: Connect) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            assert len(claim(db, worker="worker-2")) == 1
            waiting = pool.submit(record_one, other, success(leased))
            wait_until_blocked(connect(), other)
        assert waiting.result()["result"] == "stale"


def test_overlapping_batches_in_opposite_order_do_not_deadlock(db: Database, connect: Connect) -> None:
    refunded_transfers(db, 30)
    calls = claim(db, limit=30)
    reporters = [impatient(connect, deadlock_timeout="10ms") for _ in range(2)]
    gate = connect()
    with ThreadPoolExecutor(max_workers=2) as pool:
        # Both wait for a row in the middle, each with what it locked before that.
        with gate.transaction():
            gate.execute("select from marketplace.seller_transfers where id = %s for update", [calls[15]["id"]])
            forward = pool.submit(record, reporters[0], *[success(each) for each in calls])
            backward = pool.submit(record, reporters[1], *[success(each) for each in calls[::-1]])
            wait_until_blocked(connect(), *reporters)
        counted = [each["result"] for recorded in (forward.result(), backward.result()) for each in recorded]

    assert (counted.count("applied"), counted.count("already_recorded")) == (30, 30)
    assert value(db, "select count(*) from marketplace.transfer_attempts") == 30


def test_a_report_and_a_refund_of_one_order_do_not_deadlock(db: Database, connect: Connect) -> None:
    for n in (1, 2, 3):
        record_transfer(db, n, p_order_id="order-1")
    request_reversal(db)
    first, middle, last = claim(db)
    reporter, refunder = (impatient(connect, deadlock_timeout="10ms") for _ in range(2))
    gate = connect()
    with ThreadPoolExecutor(max_workers=2) as pool:
        # Both lock the order's rows, and are stopped half-way by the one in the middle.
        with gate.transaction():
            gate.execute("select from marketplace.seller_transfers where id = %s for update", [middle["id"]])
            reporting = pool.submit(record, reporter, success(last), success(middle), success(first))
            wait_until_blocked(connect(), reporter)
            refunding = pool.submit(request_reversal, refunder, p_reversal_request_id="re_2")
            wait_until_blocked(connect(), reporter, refunder)
        assert [each["result"] for each in reporting.result()] == ["applied"] * 3
        assert refunding.result() == []


def test_a_refund_sees_what_a_report_gives_back_at_the_same_time(db: Database, connect: Connect) -> None:
    leased = claimed_call(db)
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="it failed")
    refunder = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            assert record_one(db, success(leased))["status"] == "reversed"
            refunding = pool.submit(request_reversal, refunder, p_reversal_request_id="re_2")
            wait_until_blocked(connect(), refunder)
        (paid_again,) = refunding.result()
    assert (paid_again["compensates"], paid_again["status"]) == (leased["id"], "permanently_failed")
    assert claim_sends(db) == []


def test_refused_keys_and_claims_at_once_do_not_deadlock(db: Database, connect: Connect) -> None:
    """A report takes rows and then the control row, a claim the control row and then rows."""
    refunded_transfers(db, 40)
    sessions = [impatient(connect, deadlock_timeout="10ms") for _ in range(4)]

    def work(number: int) -> int:
        session, reported = sessions[number], 0
        for turn in range(40):
            call(session, "resume_stripe_calls", p_reason="the key is replaced")
            leased = claim(session, limit=4, worker=f"worker-{number}")
            key_refused = [refusal(each, 401) for each in leased[:1] if turn % 2]
            reported += len(record(session, *key_refused, *[timeout(each) for each in leased[len(key_refused) :]]))
            session.execute(
                "update marketplace.seller_transfers set next_retry_at = clock_timestamp() where id in (select id from "
                "marketplace.seller_transfers where lease_token is null limit 4 for update skip locked)"
            )
        return reported

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(work, range(4))) > 40


def test_a_waiting_report_is_seen_before_the_pause_of_another(db: Database, connect: Connect) -> None:
    """Two reports that pause: the second waits for the control row and leaves the first one's pause as it is."""
    refunded_transfers(db, 2)
    first, second = claim(db)
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            record_one(db, refusal(first, 401, message="first"))
            waiting = pool.submit(record_one, other, refusal(second, 401, message="second"))
            wait_until_blocked(connect(), other)
        assert waiting.result()["result"] == "applied"

    assert value(db, "select pause_reason from marketplace.stripe_control") == "first"


def test_a_report_with_an_old_snapshot_is_refused(db: Database) -> None:
    leased = claimed_call(db)
    db.execute("set default_transaction_isolation = 'repeatable read'")

    with pytest.raises(psycopg.Error) as refused:
        record_one(db, success(leased))

    assert refused.value.sqlstate == "25000"
