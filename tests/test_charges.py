"""db/functions/charges.sql, orders_of_charge.sql, note_charge_event.sql: what is known of a charge."""

from typing import Any

import psycopg
import pytest

from tests.support.databases import Database, row, rows
from tests.support.events import by_events, charge, event, ingest, result
from tests.support.transfers import call, contents, create_transfer, record_transfer

pytest_plugins = ("tests.support.rolled_back",)

KNOWN = {
    "p_charge_id": "ch_1",
    "p_amount": 100,
    "p_payment_intent": "pi_1",
    "p_order_id": "order-1",
    "p_transfer_group": "group-1",
    "p_currency": "usd",
}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    by_events(rolled_back_db)
    return rolled_back_db


def note(db: Database, **said: Any) -> dict[str, Any]:
    (noted,) = call(db, "note_charge", **said)
    return noted


def known(db: Database, charge_id: str = "ch_1") -> dict[str, Any]:
    return row(db, "select * from marketplace.charges where charge_id = %(id)s", id=charge_id)


def test_what_is_said_of_a_charge_is_added_up_and_may_be_said_again(db: Database) -> None:
    for name, said in KNOWN.items():
        note(db, p_charge_id="ch_1", **({name: said} if name != "p_charge_id" else {}))
    before = contents(db)

    noted = note(db, **KNOWN)

    assert {name: noted[name.removeprefix("p_")] for name in KNOWN} == KNOWN
    assert contents(db) == before


def test_what_contradicts_it_is_refused_and_nothing_changes(db: Database) -> None:
    note(db, **KNOWN)
    before = contents(db)
    others = {
        "p_amount": 99,
        "p_payment_intent": "pi_2",
        "p_order_id": "order-2",
        "p_transfer_group": "g",
        "p_currency": "eur",
    }
    for name, other in others.items():
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            note(db, **{**KNOWN, name: other})
        diag = refused.value.diag
        assert (name, diag.sqlstate, diag.table_name, diag.column_name) == (name, "ST003", "charges", name[2:])
        assert diag.message_hint
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        create_transfer(db, p_source_charge="ch_1", p_charge_amount=99)
    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("ST003", "amount")
    assert contents(db) == before


def test_an_event_adds_to_what_the_app_said_and_is_kept_where_it_contradicts(db: Database) -> None:
    note(db, p_charge_id="ch_1", p_amount=100)

    assert result(db, event("charge.succeeded", charge(payment_intent="pi_1", transfer_group="order-1"))) == "acted"

    found = known(db)
    assert (found["amount"], found["payment_intent"], found["transfer_group"]) == (100, "pi_1", "order-1")
    came = ingest(db, event("charge.updated", charge(amount=99)))
    assert (came["result"], came["detail"][:5]) == ("kept", "ST003")
    assert known(db) == found


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        ({"captured": True, "amount_captured": 100}, 100),
        ({"captured": True, "amount_captured": 60}, 60),
        ({"captured": False, "amount_captured": 0}, None),
        ({"captured": False, "amount_captured": 0, "amount_refunded": 40}, 100),
        ({"captured": None, "amount_captured": None}, 100),
    ],
)
def test_the_amount_of_a_charge_is_what_was_captured(db: Database, said: dict[str, Any], amount: int | None) -> None:
    assert result(db, event("charge.updated", charge(**said))) == "acted"
    assert known(db)["amount"] == amount


def test_what_was_refunded_is_what_stripe_told_last_by_its_own_clock(db: Database) -> None:
    for created, refunded in ((30, 50), (10, 0), (40, 20), (20, 60), (40, 20)):
        ingest(db, event("charge.refunded", charge(amount_refunded=refunded), created=created))
    assert known(db)["refunded"] == 20


def test_a_failed_payment_and_what_is_no_charge_say_nothing(db: Database) -> None:
    assert result(db, event("charge.updated", charge(status="failed", amount_refunded=0))) == "ignored"
    for wrong in ({"id": "tr_1"}, {"id": None}, {"amount": -1}, {"amount": 10**13}):
        assert result(db, event("charge.updated", {**charge(), **wrong})) == "kept"
    assert rows(db, "select from marketplace.charges") == []


def orders_of(db: Database, charge_id: str = "ch_1") -> list[str]:
    query = "select marketplace._orders_of_charge(%(id)s) as orders"
    return list(row(db, query, id=charge_id)["orders"])


def test_a_charge_is_of_the_orders_that_its_transfers_and_what_was_said_of_it_name(db: Database) -> None:
    assert orders_of(db) == []
    record_transfer(db, 2, p_source_charge="ch_1")
    assert orders_of(db) == ["order-2"]
    note(db, p_charge_id="ch_1", p_order_id="order-3", p_transfer_group="order-1")
    assert orders_of(db) == ["order-2", "order-3"]  # a group that no order is called by says nothing
    create_transfer(db, 1)
    assert orders_of(db) == ["order-1", "order-2", "order-3"]
    assert orders_of(db, "ch_2") == []
