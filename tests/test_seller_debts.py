"""db/functions/seller_debts.sql: what each seller owes, and why. The sums are worked out by hand."""

import pytest

from tests.support.databases import Database, rows
from tests.support.look_ups import seen
from tests.support.raw_transfers import run
from tests.support.transfers import (
    call,
    claim,
    claim_send_again,
    claimed_call,
    claimed_send,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_parts,
    request_reversal,
    sent,
    success,
)
from tests.support.withdrawals import born_of, withdraw

pytest_plugins = ("tests.support.rolled_back",)

Debt = tuple[str, str, int, int, int]


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def debts(db: Database) -> list[Debt]:
    """Seller, currency, paid, refunded, not given back."""
    names = ("seller_id", "currency", "paid", "refunded", "not_given_back")
    return [
        (each[names[0]], each[names[1]], each[names[2]], each[names[3]], each[names[4]])
        for each in rows(db, "select * from marketplace.seller_debts")
    ]


def why(db: Database) -> str:
    (found,) = rows(db, "select why from marketplace.seller_debts")
    return str(found["why"]).replace("\n", " ")


def test_what_is_paid_and_not_asked_back_is_no_debt(db: Database) -> None:
    record_transfer(db)
    record_one(db, refusal(claimed_send(db, 2), 400))
    assert debts(db) == [("seller-1", "usd", 1000, 0, 0)]
    assert why(db) == "Paid 10.00 USD, refunded 0.00 USD, owes 0.00 USD"


def test_a_part_on_its_way_a_part_back_and_a_part_given_up(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 300}, "re_1")
    (looked,) = claim(db)
    record_one(db, seen(looked))
    (posted,) = claim(db)
    record_one(db, success(posted))
    request_parts(db, {"key-1": 200}, "re_2")
    (dead,) = request_parts(db, {"key-1": 50}, "re_3")
    call(db, "give_up", p_id=dead["id"], p_reason="not worth it")
    assert debts(db) == [("seller-1", "usd", 1000, 550, 250)]
    assert why(db) == (
        "Paid 10.00 USD, refunded 5.50 USD, owes 2.50 USD;"
        " 2.00 USD on the way back (new); 0.50 USD given up (by a person)"
    )


def test_what_could_not_be_had_is_owed_as_far_as_the_seller_has_it(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 600})
    run(db, "update marketplace.reversal_request_lines set met = 300, unmet = 300")
    assert debts(db) == [("seller-1", "usd", 1000, 900, 900)]
    assert "3.00 USD asked for, and not to be had" in why(db)
    run(db, "update marketplace.reversal_request_lines set met = 0, unmet = 600")
    assert debts(db) == [("seller-1", "usd", 1000, 1000, 1000)]


def test_what_was_given_up_and_asked_for_again_is_owed_once(db: Database) -> None:
    record_transfer(db)
    (dead,) = request_parts(db, {"key-1": 400}, "re_1")
    call(db, "give_up", p_id=dead["id"], p_reason="not now")
    request_reversal(db, p_reversal_request_id="re_2")  # asks for 1000, and cannot have those 400
    assert debts(db) == [("seller-1", "usd", 1000, 1000, 1000)]


def test_what_was_reopened_counts_once(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing"))
    call(db, "reopen", p_id=leased["id"], p_reason="it is there")
    assert debts(db) == [("seller-1", "usd", 1000, 1000, 1000)]


def test_what_was_paid_again_was_paid_twice_and_is_back_once(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    withdraw(db)
    assert debts(db) == [("seller-1", "usd", 1000, 1000, 0)]
    record_one(db, sent(claim_send_again(db, born_of(db, "compensates")), "tr_2"))
    assert debts(db) == [("seller-1", "usd", 2000, 1000, 0)]


def test_each_currency_of_a_seller_is_its_own_and_who_owes_most_comes_first(db: Database) -> None:
    refunded_transfer(db, 1, p_seller_id="seller-9", p_currency="jpy", p_amount=500)
    refunded_transfer(db, 2, p_seller_id="seller-9", p_currency="kwd", p_amount=1230)
    record_transfer(db, 3, p_seller_id="seller-8")
    assert debts(db) == [
        ("seller-9", "kwd", 1230, 1230, 1230),
        ("seller-9", "jpy", 500, 500, 500),
        ("seller-8", "usd", 1000, 0, 0),
    ]


def test_of_what_was_given_up_and_what_could_not_be_had_the_larger_is_owed(db: Database) -> None:
    record_transfer(db)
    (dead,) = request_parts(db, {"key-1": 400}, "re_1")
    call(db, "give_up", p_id=dead["id"], p_reason="not now")
    request_parts(db, {"key-1": 300}, "re_2")
    run(db, "update marketplace.reversal_request_lines set met = 100, unmet = 200 where reversal_request_id = 're_2'")
    assert debts(db) == [("seller-1", "usd", 1000, 700, 700)]
