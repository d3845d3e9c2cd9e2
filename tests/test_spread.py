"""db/functions/spread.sql: an amount of an order's money, spread over its transfers to the minor unit."""

import random
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, row, rows
from tests.support.transfers import (
    at_commit,
    claim,
    contents,
    create_transfer,
    record_transfer,
    request_lines,
    request_parts,
    request_reversal,
)

pytest_plugins = ("tests.support.rolled_back",)

HALF = Jsonb([{"transfer_key": "key-1", "amount": 500}])


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def paid(db: Database, *amounts: int, currency: str = "usd") -> None:
    """Transfers key-1, key-2, … of order-1."""
    for n, amount in enumerate(amounts, start=1):
        record_transfer(db, n, p_order_id="order-1", p_amount=amount, p_currency=currency)


def ask(db: Database, amount: int, request: str = "re_1", **more: Any) -> dict[str, int]:
    """Asks for the amount; gives what each transfer is to give."""
    request_reversal(db, p_reversal_request_id=request, p_amount=amount, **more)
    at_commit(db)
    return {key: asked for key, asked, _, _ in request_lines(db, request)}


def refused(db: Database, amount: int, request: str = "re_1", **more: Any) -> psycopg.errors.Diagnostic:
    before = contents(db)
    with pytest.raises(psycopg.Error) as error, db.transaction():
        ask(db, amount, request, **more)
    assert contents(db) == before
    return error.value.diag


@pytest.mark.parametrize(
    ("amounts", "amount", "shares"),
    [
        ((1000,), 300, (300,)),
        ((1000, 1000), 300, (150, 150)),
        ((1000, 1000), 301, (151, 150)),  # of equals, the first
        ((100, 200, 700), 100, (10, 20, 70)),
        ((100, 100, 100), 100, (34, 33, 33)),
        ((333, 333, 334), 500, (167, 166, 167)),  # 166.5, 166.5, 167: one is over, and the first has it
        ((1, 1, 1), 2, (1, 1, 0)),
        ((1, 999999999999), 999999999999, (1, 999999999998)),  # 0.999999999999: almost all of it
        ((999999999999, 999999999999), 999999999999, (500000000000, 499999999999)),
        ((5, 3, 2), 10, (5, 3, 2)),
    ],
)
def test_each_gives_its_share_and_the_shares_are_the_amount(
    db: Database, amounts: tuple[int, ...], amount: int, shares: tuple[int, ...]
) -> None:
    paid(db, *amounts)

    assert ask(db, amount) == {f"key-{n}": share for n, share in enumerate(shares, start=1) if share}


@pytest.mark.parametrize(
    ("currency", "amounts", "amount", "shares"),
    [
        ("jpy", (500, 501), 333, (166, 167)),
        ("kwd", (10000, 10000), 10010, (5010, 5000)),
        ("kwd", (100, 100, 100), 100, (40, 30, 30)),
        ("isk", (50000, 50000), 30100, (15100, 15000)),
    ],
)
def test_shares_are_multiples_of_what_stripe_takes(
    db: Database, currency: str, amounts: tuple[int, ...], amount: int, shares: tuple[int, ...]
) -> None:
    paid(db, *amounts, currency=currency)

    assert ask(db, amount) == {f"key-{n}": share for n, share in enumerate(shares, start=1)}


def test_what_other_requests_took_counts_no_more(db: Database) -> None:
    paid(db, 1000, 1000)
    request_parts(db, {"key-1": 900}, "re_0")

    assert ask(db, 550) == {"key-1": 50, "key-2": 500}


def test_a_transfer_not_made_yet_is_made_smaller(db: Database) -> None:
    record_transfer(db)
    create_transfer(db, 2, p_order_id="order-1")

    assert ask(db, 500) == {"key-1": 250, "key-2": 250}
    assert [
        each["amount"] for each in rows(db, "select amount from marketplace.seller_transfers where status = 'pending'")
    ] == [750]


def test_amounts_may_be_asked_until_nothing_is_left(db: Database) -> None:
    paid(db, 333, 667)
    for n in range(3):
        ask(db, 333, f"re_{n}")

    assert sum(ask(db, 1, "re_last").values()) == 1
    more = refused(db, 1, "re_more")
    assert (more.sqlstate, more.column_name) == ("ST005", "p_amount")


def test_more_than_is_left_names_what_is_left(db: Database) -> None:
    paid(db, 400, 600)

    more = refused(db, 1001)

    assert (more.sqlstate, more.message_primary) == ("ST005", "order order-1: 1001 asked, 1000 left")
    assert more.message_detail == '{"left": 1000, "asked": 1001, "order_id": "order-1"}'


def test_what_is_in_flight_is_not_left(db: Database) -> None:
    paid(db, 400, 600)
    request_reversal(db, p_reversal_request_id="re_0", p_amount=999)
    claim(db)

    assert refused(db, 2).sqlstate == "ST005"
    assert sum(ask(db, 1).values()) == 1


def test_an_amount_is_of_one_currency(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1", p_currency="eur")

    several = refused(db, 100)

    assert (several.sqlstate, several.column_name) == ("22023", "p_amount")
    assert several.message_primary == "order order-1 has transfers in several currencies: eur, usd"
    request_parts(db, {"key-2": 1000}, "re_0")
    assert ask(db, 100) == {"key-1": 100}


def test_an_amount_that_stripe_would_not_take_is_refused_unless_it_is_all_there_is(db: Database) -> None:
    paid(db, 10005, currency="kwd")

    assert refused(db, 1001).sqlstate == "22023"
    assert ask(db, 10005) == {"key-1": 10005}


def test_an_amount_comes_without_an_allocation(db: Database) -> None:
    paid(db, 1000)
    both = refused(db, 100, p_allocation=Jsonb([{"transfer_key": "key-1", "amount": 100}]))
    assert (both.sqlstate, both.column_name) == ("22023", "p_amount")


def test_the_same_request_again_changes_nothing_whatever_is_left_by_then(db: Database) -> None:
    paid(db, 400, 600)
    first = ask(db, 500)
    ask(db, 500, "re_2")
    before = contents(db)

    assert ask(db, 500) == first

    assert contents(db) == before
    assert row(
        db, "select asked_amount, is_whole from marketplace.reversal_requests where reversal_request_id = 're_1'"
    ) == {
        "asked_amount": 500,
        "is_whole": False,
    }


@pytest.mark.parametrize(
    "other", [{"p_amount": 501}, {}, {"p_allocation": Jsonb([{"transfer_key": "key-1", "amount": 500}])}]
)
def test_the_same_request_with_another_amount_is_another_request(db: Database, other: dict[str, Any]) -> None:
    paid(db, 1000)
    ask(db, 500)

    with pytest.raises(psycopg.Error) as error, db.transaction():
        request_reversal(db, **other)

    assert error.value.diag.sqlstate == "ST003"


@pytest.mark.parametrize("first", [{}, {"p_allocation": HALF}])
def test_an_amount_is_not_what_was_asked_otherwise(db: Database, first: dict[str, Any]) -> None:
    paid(db, 1000)
    request_reversal(db, **first)

    assert refused(db, 500).sqlstate == "ST003"


@pytest.mark.parametrize("seed", range(12))
def test_any_amounts_of_any_transfers_add_up_and_take_no_more_than_there_is(db: Database, seed: int) -> None:
    dice = random.Random(seed)
    currency, unit = dice.choice([("usd", 1), ("jpy", 1), ("kwd", 10), ("isk", 100)])
    amounts = [unit * dice.randint(1, dice.choice([3, 100, 10**6])) for _ in range(dice.randint(1, 7))]
    paid(db, *amounts, currency=currency)
    left = dict(enumerate(amounts, start=1))
    asked = 0
    while total := sum(left.values()):
        amount = unit * dice.randint(1, total // unit)
        shares = ask(db, amount, f"re_{asked}")
        asked += 1
        assert sum(shares.values()) == amount
        for key, share in shares.items():
            n = int(key.removeprefix("key-"))
            exact = left[n] * amount / total
            assert share % unit == 0
            assert abs(share - exact) < unit + 1e-6
            left[n] -= share
            assert left[n] >= 0
    found = rows(db, "select sum(amount) as total from marketplace.seller_transfers group by coalesce(root_id, id)")
    assert sorted(int(each["total"]) for each in found) == sorted(amounts)
