"""db/functions/request_reversal.sql: a refund asks for an order's money back, whenever it comes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    contents,
    create_transfer,
    record_transfer,
    refunded_transfer,
    request_lines,
    request_reversal,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def states(found: list[DictRow]) -> dict[str, str]:
    return {each["transfer_key"]: each["status"] for each in found}


def test_a_refund_takes_every_transfer_of_its_order_and_no_other(db: Database) -> None:
    record_transfer(db, 1)
    record_transfer(db, 2, p_order_id="order-1", p_amount=250, p_currency="jpy")
    other = record_transfer(db, 3)

    taken = request_reversal(db)

    assert states(taken) == {"key-1": "reversal_pending", "key-2": "reversal_pending"}
    assert request_lines(db) == [("key-1", 1000, 1000, 0), ("key-2", 250, 250, 0)]
    assert transfer(db, other["id"]) == other
    request = row(db, "select * from marketplace.reversal_requests")
    assert (request["reversal_request_id"], request["order_id"], request["reason"]) == ("re_1", "order-1", "refund")
    assert request["requested_by"] == value(db, "select session_user")


def test_the_same_request_again_changes_nothing(db: Database) -> None:
    taken = refunded_transfer(db)
    before = contents(db)

    assert request_reversal(db) == [taken]
    assert contents(db) == before


def test_a_known_request_with_other_values_is_refused(db: Database) -> None:
    refunded_transfer(db)
    record_transfer(db, 2)
    before = contents(db)

    others: list[dict[str, Any]] = [{"p_order_id": "order-2"}, {"p_reason": "dispute"}, {"p_order_id": "order-3"}]
    for other in others:
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            request_reversal(db, **other)
        diag = refused.value.diag
        assert (other, diag.sqlstate, diag.constraint_name) == (other, "ST003", "pk_reversal_requests")
        assert diag.message_hint

    assert contents(db) == before


def test_an_order_without_transfers_is_an_error_and_leaves_no_request(db: Database) -> None:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        request_reversal(db)

    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("ST004", "p_order_id")
    assert refused.value.diag.message_hint
    assert rows(db, "select from marketplace.reversal_requests") == []


def test_runners_are_woken_when_the_request_is_committed_and_not_before(connect: Connect) -> None:
    db = connect()
    record_transfer(db)
    listener, marker = connect(), connect()
    listener.execute("listen seller_transfers_due")
    listener.execute("listen marker")

    with db.transaction():
        request_reversal(db)
        marker.execute("notify marker")
        # The marker was sent after the request and comes first: the request's own waits for its commit.
        before = [notify.channel for notify in listener.notifies(timeout=10, stop_after=1)]
    after = [notify.channel for notify in listener.notifies(timeout=10, stop_after=1)]

    assert (before, after) == (["marker"], ["seller_transfers_due"])


@pytest.mark.parametrize("committed", [True, False])
def test_a_refund_waits_for_a_transfer_that_is_being_recorded(connect: Connect, committed: bool) -> None:
    db = connect()
    record_transfer(db, 1)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction(force_rollback=not committed):
            record_transfer(db, 2, p_order_id="order-1")
            refund = pool.submit(request_reversal, second)
            wait_until_blocked(connect(), second)
        taken = refund.result()

    assert [each["transfer_key"] for each in taken] == (["key-1", "key-2"] if committed else ["key-1"])


@pytest.mark.parametrize("committed", [True, False])
def test_a_transfer_waits_for_a_refund_that_is_being_requested(connect: Connect, committed: bool) -> None:
    db = connect()
    record_transfer(db, 1)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction(force_rollback=not committed):
            request_reversal(db)
            recording = pool.submit(record_transfer, second, 2, p_order_id="order-1")
            wait_until_blocked(connect(), second)
        recorded = recording.result()

    assert recorded["status"] == ("reversal_pending" if committed else "completed")


def test_two_requests_at_once_take_each_transfer_once(connect: Connect) -> None:
    db = connect()
    record_transfer(db)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            first = request_reversal(db)
            other = pool.submit(request_reversal, second, p_reversal_request_id="re_2")
            wait_until_blocked(connect(), second)
        assert other.result() == []

    assert states(first) == {"key-1": "reversal_pending"}
    assert value(db, "select sum(met) from marketplace.reversal_request_lines") == 1000


def test_one_request_id_for_two_orders_at_once_is_refused_for_one_of_them(connect: Connect) -> None:
    db = connect()
    record_transfer(db, 1)
    record_transfer(db, 2)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            request_reversal(db)
            other = pool.submit(request_reversal, second, p_order_id="order-2")
            wait_until_blocked(connect(), second)
        with pytest.raises(psycopg.Error) as refused:
            other.result()

    assert refused.value.sqlstate == "ST003"
    assert value(db, "select count(*) from marketplace.seller_transfers where status = 'reversal_pending'") == 1


def test_a_row_that_becomes_completed_under_the_refund_is_taken(connect: Connect) -> None:
    db = connect()
    created = create_transfer(db)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # As a worker's report will do it: by the row's lock, without the order's.
        with db.transaction():
            db.execute(
                "update marketplace.seller_transfers set status = 'completed', completed_at = clock_timestamp(), "
                "stripe_transfer_id = 'tr_1', next_retry_at = null, call_last_sent_at = clock_timestamp()"
            )
            refund = pool.submit(request_reversal, second)
            wait_until_blocked(connect(), second)
        (taken,) = refund.result()

    assert (taken["id"], taken["status"]) == (created["id"], "reversal_pending")
