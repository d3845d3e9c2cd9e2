"""db/functions/create_transfer.sql and transfer_birth.sql: how transfers come to be known."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.events import by_events, event, ingest, refund
from tests.support.raw_transfers import run
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    call,
    claim,
    contents,
    create_transfer,
    record_transfer,
    request_reversal,
    status_log,
    transfer,
    transfer_values,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def test_a_created_transfer_is_pending_and_due_at_once(db: Database) -> None:
    made = create_transfer(db, p_source_charge="ch_1", p_charge_amount=1500)

    assert {
        name: made[name]
        for name in (
            "transfer_key",
            "order_id",
            "seller_id",
            "destination_account",
            "source_charge",
            "original_amount",
            "amount",
            "currency",
            "status",
            "completed_at",
            "stripe_transfer_id",
            "retry_count",
            "lease_token",
            "call_generation",
        )
    } == {
        "transfer_key": "key-1",
        "order_id": "order-1",
        "seller_id": "seller-1",
        "destination_account": "acct_1",
        "source_charge": "ch_1",
        "original_amount": 1000,
        "amount": 1000,
        "currency": "usd",
        "status": "pending",
        "completed_at": None,
        "stripe_transfer_id": None,
        "retry_count": 0,
        "lease_token": None,
        "call_generation": 1,
    }
    assert made["next_retry_at"] <= value(db, "select clock_timestamp()")
    assert row(db, "select charge_id, amount from marketplace.charges") == {"charge_id": "ch_1", "amount": 1500}


def test_a_recorded_transfer_is_completed_and_needs_no_call(db: Database) -> None:
    made = record_transfer(db)

    assert (made["status"], made["stripe_transfer_id"], made["next_retry_at"]) == ("completed", "tr_1", None)
    assert made["completed_at"] is not None
    assert claim(db) == []


@pytest.mark.parametrize(
    ("currency", "amount", "quantum", "instead"),
    [("kwd", 1205, 10, 1200), ("bhd", 1, 10, 10), ("isk", 1010, 100, 1000), ("ugx", 10_999, 100, 10_900)],
)
def test_an_amount_that_stripe_does_not_take_is_not_to_be_sent(
    db: Database, currency: str, amount: int, quantum: int, instead: int
) -> None:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        create_transfer(db, p_currency=currency, p_amount=amount)

    diag = refused.value.diag
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_amount")
    said, correction = (diag.message_hint or "").split("says so: ")
    assert f"multiple of {quantum}, such as {instead}. " in said
    assert rows(db, "select from marketplace.seller_transfers") == []
    assert create_transfer(db, p_currency=currency, p_amount=instead)["amount"] == instead
    # What was made at Stripe is believed.
    assert record_transfer(db, 2, p_currency=currency, p_amount=amount)["amount"] == amount

    db.execute("set role marketplace_owner")
    db.execute(correction.encode())
    db.execute("reset role")
    assert create_transfer(db, 3, p_currency=currency, p_amount=amount)["amount"] == amount


def test_a_transfer_that_was_to_be_sent_before_its_quantum_changed_is_still_known(db: Database) -> None:
    run(db, "update marketplace.currencies set quantum = 1 where currency = 'kwd'")
    made = create_transfer(db, p_currency="kwd", p_amount=1205)
    run(db, "update marketplace.currencies set quantum = 10 where currency = 'kwd'")
    assert create_transfer(db, p_currency="kwd", p_amount=1205) == made


@pytest.mark.parametrize("make", [create_transfer, record_transfer])
def test_the_same_key_again_is_the_same_row(db: Database, make: Any) -> None:
    first = make(db, p_source_charge="ch_1", p_charge_amount=1500)
    before = contents(db)

    assert make(db, p_source_charge="ch_1", p_charge_amount=1500) == first
    assert make(db, p_source_charge="ch_1") == first  # an amount that is not named again is not another amount
    assert contents(db) == before


@pytest.mark.parametrize("make", [create_transfer, record_transfer])
def test_the_same_key_with_another_value_is_refused(db: Database, make: Any) -> None:
    make(db, p_source_charge="ch_1")
    before = contents(db)

    for other in (
        {"p_order_id": "order-2"},
        {"p_seller_id": "seller-2"},
        {"p_destination_account": "acct_2"},
        {"p_amount": 1001},
        {"p_currency": "eur"},
        {"p_source_charge": None},
        {"p_source_charge": "ch_2"},
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            make(db, **{"p_source_charge": "ch_1", **other})
        diag = refused.value.diag
        assert (other, diag.sqlstate, diag.constraint_name) == (other, "ST003", "uq_seller_transfers_transfer_key")
        assert diag.message_hint

    assert contents(db) == before


def test_a_charge_has_one_amount(db: Database) -> None:
    create_transfer(db, 1, p_source_charge="ch_1", p_charge_amount=1500)
    create_transfer(db, 2, p_source_charge="ch_1", p_charge_amount=1500)

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        create_transfer(db, 3, p_source_charge="ch_1", p_charge_amount=1501)

    diag = refused.value.diag
    assert (diag.sqlstate, diag.table_name, diag.column_name) == ("ST003", "charges", "amount")
    assert value(db, "select count(*) from marketplace.seller_transfers") == 2


def test_a_stripe_id_may_be_added_where_there_was_none(db: Database) -> None:
    without = record_transfer(db, p_stripe_transfer_id=None)

    with_id = record_transfer(db)

    assert (without["stripe_transfer_id"], with_id["stripe_transfer_id"]) == (None, "tr_1")
    assert with_id["id"] == without["id"]
    assert with_id["completed_at"] == without["completed_at"]


def test_the_call_without_an_id_may_come_again_after_the_id_was_added(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    with_id = record_transfer(db)

    assert record_transfer(db, p_stripe_transfer_id=None) == with_id


def test_a_stripe_id_added_while_the_reversal_waits_makes_it_claimable(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    request_reversal(db)

    record_transfer(db)

    assert [leased["stripe_transfer_id"] for leased in claim(db)] == ["tr_1"]


def test_a_known_stripe_id_is_never_replaced(db: Database) -> None:
    made = record_transfer(db)

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        record_transfer(db, p_stripe_transfer_id="tr_2")

    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("ST003", "stripe_transfer_id")
    assert transfer(db, made["id"]) == made


def test_one_stripe_transfer_is_one_row(db: Database) -> None:
    record_transfer(db, 1)
    record_transfer(db, 2, p_stripe_transfer_id=None)
    before = contents(db)

    for n in (2, 3):  # a known row, and a new one
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            record_transfer(db, n, p_stripe_transfer_id="tr_1")
        assert refused.value.sqlstate == "ST003"
        assert refused.value.diag.message_hint

    assert contents(db) == before


def test_an_announced_transfer_that_the_app_made_itself_is_completed(db: Database) -> None:
    announced = create_transfer(db)

    made = record_transfer(db)

    assert made["id"] == announced["id"]
    assert (made["status"], made["stripe_transfer_id"], made["next_retry_at"]) == ("completed", "tr_1", None)
    steps = [(entry["from_status"], entry["to_status"]) for entry in status_log(db, made["id"])]
    assert steps == [(None, "pending"), ("pending", "completed")]


def test_an_announced_transfer_is_not_completed_without_its_stripe_id(db: Database) -> None:
    announced = create_transfer(db)

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        record_transfer(db, p_stripe_transfer_id=None)

    assert refused.value.sqlstate == "ST003"
    assert transfer(db, announced["id"]) == announced


def test_a_transfer_that_a_runner_may_have_sent_is_not_recorded_by_the_app(db: Database) -> None:
    announced = create_transfer(db)
    db.execute("update marketplace.seller_transfers set call_last_sent_at = clock_timestamp()")

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        record_transfer(db)

    assert refused.value.sqlstate == "ST002"
    assert transfer(db, announced["id"])["status"] == "pending"


def test_a_row_given_up_before_it_was_paid_stays_given_up(db: Database) -> None:
    create_transfer(db)
    request_reversal(db)
    before = contents(db)

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        record_transfer(db)

    assert refused.value.sqlstate == "ST002"
    assert "new transfer_key" in (refused.value.diag.message_hint or "")
    assert contents(db) == before


def test_the_log_quotes_the_callers_reason(db: Database) -> None:
    db.execute("set marketplace.reason = 'import of 2019'")

    made = record_transfer(db)

    (birth,) = status_log(db, made["id"])
    assert (birth["from_status"], birth["to_status"], birth["reason"]) == (None, "completed", "import of 2019")


@pytest.mark.parametrize("function", ["create_transfer", "record_completed_transfer"])
def test_an_old_snapshot_is_refused(connect: Connect, function: str) -> None:
    db = connect()
    db.execute("set default_transaction_isolation = 'repeatable read'")

    with pytest.raises(psycopg.Error) as refused:
        call(db, function, **transfer_values())

    assert refused.value.sqlstate == "25000"
    assert "READ COMMITTED" in (refused.value.diag.message_hint or "")
    assert rows(db, "select from marketplace.seller_transfers") == []


def test_two_sessions_that_create_the_same_transfer_get_one_row(connect: Connect) -> None:
    db = connect()
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            made = create_transfer(db)
            again = pool.submit(create_transfer, second)
            wait_until_blocked(connect(), second)
        assert again.result() == made


@pytest.mark.parametrize("committed", [True, False])
def test_a_key_that_another_order_takes_meanwhile_is_refused_once_it_is_committed(
    connect: Connect, committed: bool
) -> None:
    db = connect()
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction(force_rollback=not committed):
            create_transfer(db)
            other = pool.submit(create_transfer, second, p_order_id="order-2")
            wait_until_blocked(connect(), second)
        if committed:
            with pytest.raises(psycopg.Error) as refused:
                other.result()
            assert refused.value.sqlstate == "ST003"
        else:
            other.result()
    assert value(db, "select order_id from marketplace.seller_transfers") == ("order-1" if committed else "order-2")


def test_a_stripe_transfer_that_another_session_records_meanwhile_is_refused(connect: Connect) -> None:
    db = connect()
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            record_transfer(db, 1)
            other = pool.submit(record_transfer, second, 2, p_stripe_transfer_id="tr_1")
            wait_until_blocked(connect(), second)
        with pytest.raises(psycopg.Error) as refused:
            other.result()
    assert refused.value.sqlstate == "ST003"
    assert value(db, "select count(*) from marketplace.seller_transfers") == 1


def _tells(db: Database) -> object:
    return ingest(db, event("refund.updated", refund()))["result"]


def _creates(db: Database) -> object:
    return create_transfer(db, 3, p_order_id="order-2", p_source_charge="ch_1", p_charge_amount=2000)["status"]


def _notes(db: Database) -> object:
    return call(db, "note_charge", p_charge_id="ch_1", p_amount=2000, p_order_id="order-2")[0]["amount"]


@pytest.mark.parametrize(("other", "came_to"), [(_tells, "acted"), (_creates, "pending"), (_notes, 2000)])
def test_a_charge_of_two_orders_is_recorded_in_one_transaction_whoever_else_is_at_the_second(
    connect: Connect, other: Callable[[Database], object], came_to: object
) -> None:
    db, second = impatient(connect, deadlock_timeout="10ms"), impatient(connect, deadlock_timeout="10ms")
    by_events(db)
    create_transfer(db, 2, p_source_charge="ch_1")
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            create_transfer(db, 1, p_source_charge="ch_1", p_charge_amount=2000)
            waiting = pool.submit(other, second)
            wait_until_blocked(connect(), second)
            create_transfer(db, 4, p_order_id="order-2", p_source_charge="ch_1", p_charge_amount=2000)
        assert waiting.result() == came_to
