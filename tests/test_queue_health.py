"""db/functions/queue_health.sql: how the work stands."""

from datetime import timedelta

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, row, rows
from tests.support.raw_transfers import update_transfer
from tests.support.transfers import (
    call,
    claim,
    create_transfer,
    lapse_lease,
    make_due,
    record_one,
    record_transfer,
    refunded_transfers,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)

COUNTS = ("due", "waiting", "leased", "lapsed", "parked", "unknown_outcome")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def health(db: Database, kind: str = "reversals") -> DictRow:
    return row(db, "select * from marketplace.queue_health_full where kind = %(kind)s", kind=kind)


def test_an_empty_queue_is_a_row_of_zeros_per_kind(db: Database) -> None:
    assert rows(db, "select * from marketplace.queue_health_full order by kind") == [
        {
            "kind": kind,
            **dict.fromkeys(COUNTS, 0),
            "oldest_due_for": None,
            "paused_at": None,
            "paused_by": None,
            "pause_reason": None,
            "probe_at": None,
            "reconcile_needed_since": None,
        }
        for kind in ("reversals", "transfers")
    ]


def test_what_is_to_be_sent_is_counted_apart(db: Database) -> None:
    refunded_transfers(db, 1)
    due, waiting, parked, unknown = (create_transfer(db, n)["id"] for n in (11, 12, 13, 14))
    update_transfer(db, due, "next_retry_at = now() - interval '3 h'")
    update_transfer(db, waiting, "status = 'failed', next_retry_at = now() + interval '1 h'")
    update_transfer(db, parked, "status = 'failed', parked_reason = 'conflict'")
    update_transfer(db, unknown, "call_unknown = true")

    found = health(db, "transfers")

    assert {name: found[name] for name in COUNTS} == {
        "due": 2,
        "waiting": 1,
        "leased": 0,
        "lapsed": 0,
        "parked": 1,
        "unknown_outcome": 1,
    }
    assert timedelta(hours=3) <= found["oldest_due_for"] < timedelta(hours=3, minutes=1)
    assert health(db)["due"] == 1


def test_every_open_row_is_counted_where_it_stands(db: Database) -> None:
    record_transfer(db, 101)  # nothing is asked of these two
    create_transfer(db, 102)
    waiting, parked, _leased, lapsed, unknown, ended, *due = refunded_transfers(db, 9)
    for each in claim(db, limit=6):
        if each["id"] == lapsed:
            lapse_lease(db, lapsed)
        elif each["id"] in (waiting, unknown):
            record_one(db, timeout(each))
        elif each["id"] == ended:
            record_one(db, success(each))
        elif each["id"] == parked:
            record_one(db, success(each, amount=1))
    make_due(db, unknown)
    db.execute("update marketplace.seller_transfers set next_retry_at = now() - interval '3 h' where id = %s", [due[1]])

    found = health(db)

    # due: three never tried, one of unknown outcome, one whose worker is silent
    assert {name: found[name] for name in COUNTS} == {
        "due": 5,
        "waiting": 1,
        "leased": 1,
        "lapsed": 1,
        "parked": 1,
        "unknown_outcome": 3,  # waiting, unknown, and the parked one
    }
    assert timedelta(hours=3) <= found["oldest_due_for"] < timedelta(hours=3, minutes=1)
    assert len(claim(db, limit=100)) == found["due"]


def test_a_pause_shows_with_or_without_work(db: Database) -> None:
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")

    found = health(db)

    assert (found["paused_by"], found["pause_reason"], found["due"]) == ("person", "Stripe asked us to", 0)
    assert found["paused_at"] is not None


def test_programs_read_the_same_by_functions(db: Database) -> None:
    refunded_transfers(db, 2)

    by_function, idle = call(db, "read_queue_health")
    by_view = health(db)

    assert by_function.pop("oldest_due_for") <= by_view.pop("oldest_due_for")
    assert by_function == by_view
    assert idle == health(db, "transfers")
    assert call(db, "read_transfer_totals") == rows(
        db,
        "select currency, exponent, status, transfers, amount from marketplace.transfer_totals"
        " order by currency, status",
    )


def test_the_view_for_eyes_says_the_same(db: Database) -> None:
    refunded_transfers(db, 2)
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    (shown,) = rows(db, "select * from marketplace.queue_health where kind = 'reversals'")
    full = health(db)
    assert shown.pop("oldest_due_for") <= full["oldest_due_for"]
    assert shown == {name: full[name] for name in shown}
    (total,) = rows(db, "select * from marketplace.transfer_totals")
    assert (total["amount"], total["amount_in_words"]) == (2000, "20.00 USD")


def test_totals_add_up_per_currency_and_status(db: Database) -> None:
    record_transfer(db, 1, p_amount=1000)
    record_transfer(db, 2, p_amount=234)
    record_transfer(db, 3, p_amount=500, p_currency="jpy")
    create_transfer(db, 4, p_amount=7)
    db.execute("select marketplace.request_reversal('order-2', 're_2')")

    assert [tuple(each.values()) for each in call(db, "read_transfer_totals")] == [
        ("jpy", 0, "completed", 1, 500),
        ("usd", 2, "completed", 1, 1000),
        ("usd", 2, "pending", 1, 7),
        ("usd", 2, "reversal_pending", 1, 234),
    ]
