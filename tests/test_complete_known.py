"""db/functions/complete_known.sql: a known transfer turns out to be paid, after some of it was refunded."""

from typing import Any

import psycopg
import pytest

from tests.support.databases import Database, value
from tests.support.raw_transfers import update_transfer
from tests.support.transfers import (
    at_commit,
    call,
    claim,
    contents,
    create_transfer,
    family,
    make_due,
    record_transfer,
    request_parts,
    request_reversal,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def stands_for(db: Database, root_id: int) -> list[tuple[str, int, str | None]]:
    return [(each["status"], each["amount"], each["stripe_transfer_id"]) for each in family(db, root_id)]


def refusal(db: Database, **changes: Any) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        record_transfer(db, **changes)
    return refused.value.diag


def test_a_stripe_id_that_comes_late_reaches_every_open_slice(db: Database) -> None:
    legacy = record_transfer(db, p_stripe_transfer_id=None)
    for n, amount in enumerate((300, 200, 100), start=1):
        request_parts(db, {"key-1": amount}, f"re_{n}")
    first, second, _ = [each["id"] for each in family(db, legacy["id"])][1:]
    value(db, "select marketplace._split_transfer(%(id)s, 50)", id=legacy["id"])
    update_transfer(db, first, "next_retry_at = now() + interval '1 h'")
    update_transfer(db, second, "next_retry_at = now() - interval '1 h'")
    assert claim(db, limit=1) == []  # without an id the second ends here

    record_transfer(db)

    at_commit(db)
    assert stands_for(db, legacy["id"]) == [
        ("completed", 350, "tr_1"),
        ("reversal_pending", 300, "tr_1"),
        ("permanently_failed", 200, None),
        ("reversal_pending", 100, "tr_1"),
        ("completed", 50, "tr_1"),
    ]
    make_due(db, first)
    assert {call["stripe_transfer_id"] for call in claim(db)} == {"tr_1"}


def test_a_stripe_id_that_another_root_has_is_refused_with_the_index_that_keeps_them_apart(db: Database) -> None:
    record_transfer(db, 1)
    request_parts(db, {"key-1": 300})
    record_transfer(db, 2, p_stripe_transfer_id=None)
    before = contents(db)
    for n in (2, 3):  # a known row, and a new one
        diag = refusal(db, n=n, p_stripe_transfer_id="tr_1")
        assert (n, diag.sqlstate, diag.constraint_name) == (n, "ST003", "idx_seller_transfers_stripe_transfer_id")
        assert diag.message_hint
    assert contents(db) == before


def test_a_transfer_of_which_a_part_was_given_an_id_is_given_no_other(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (part,) = request_parts(db, {"key-1": 400})
    assert claim(db) == []
    call(db, "reopen", p_id=part["id"], p_reason="ticket 42", p_stripe_transfer_id="tr_1")

    diag = refusal(db, p_stripe_transfer_id="tr_2")

    assert (diag.sqlstate, diag.column_name) == ("ST003", "stripe_transfer_id")
    assert record_transfer(db)["stripe_transfer_id"] == "tr_1"
    at_commit(db)


def test_what_ended_for_want_of_its_id_is_not_recorded_under_another_key(db: Database) -> None:
    row = record_transfer(db, p_stripe_transfer_id=None)
    request_reversal(db)
    assert claim(db) == []

    diag = refusal(db)

    assert (diag.sqlstate, f"reopen(p_id => {row['id']}," in str(diag.message_hint)) == ("ST002", True)


def test_what_is_left_of_an_announced_transfer_is_paid_and_recorded_with_its_own_amount(db: Database) -> None:
    announced = create_transfer(db)
    request_parts(db, {"key-1": 300})

    made = record_transfer(db, p_amount=700)

    at_commit(db)
    assert (made["id"], made["original_amount"]) == (announced["id"], 1000)
    assert stands_for(db, announced["id"]) == [("completed", 700, "tr_1"), ("permanently_failed", 300, None)]
    before = contents(db)
    assert record_transfer(db, p_amount=700) == made
    assert create_transfer(db)["id"] == announced["id"]
    assert contents(db) == before
    assert refusal(db, p_amount=699).sqlstate == "ST003"


def test_an_announced_transfer_is_not_recorded_as_paid_in_full_when_a_part_was_refunded_before(db: Database) -> None:
    create_transfer(db)
    request_parts(db, {"key-1": 300})
    before = contents(db)

    diag = refusal(db)

    assert (diag.sqlstate, diag.column_name) == ("ST002", "amount")
    assert "700" in (diag.message_hint or "")
    assert contents(db) == before


def test_what_was_given_up_again_was_not_refunded(db: Database) -> None:
    """Nobody who has paid it otherwise is told to take it back."""
    given_up = create_transfer(db)["id"]
    call(db, "give_up", p_id=given_up, p_reason="paid otherwise")
    (successor,) = call(db, "reopen", p_id=given_up, p_reason="it was not")
    call(db, "give_up", p_id=successor["id"], p_reason="it was")
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        record_transfer(db)
    assert (caught.value.sqlstate, caught.value.diag.column_name) == ("ST002", "stripe_transfer_id")
    assert "under a new transfer_key" in str(caught.value.diag.message_hint)


def test_the_amount_that_was_paid_stays_the_same_whatever_is_taken_back_later(db: Database) -> None:
    create_transfer(db)
    request_parts(db, {"key-1": 300})
    made = record_transfer(db, p_amount=700)
    request_parts(db, {"key-1": 100}, "re_2")
    request_reversal(db, p_reversal_request_id="re_3")

    again = record_transfer(db, p_amount=700)

    assert (again["id"], again["status"], again["amount"]) == (made["id"], "reversal_pending", 600)
    assert refusal(db, p_amount=600).sqlstate == "ST003"


def test_an_announced_transfer_that_was_split_is_completed_in_all_its_open_rows(db: Database) -> None:
    announced = create_transfer(db)
    value(db, "select marketplace._split_transfer(%(id)s, 300)", id=announced["id"])

    record_transfer(db)

    at_commit(db)
    assert stands_for(db, announced["id"]) == [("completed", 700, "tr_1"), ("completed", 300, "tr_1")]


def test_an_announced_transfer_is_not_completed_while_a_slice_of_it_may_be_being_paid(db: Database) -> None:
    announced = create_transfer(db)
    slice_id = value(db, "select marketplace._split_transfer(%(id)s, 300)", id=announced["id"])
    update_transfer(db, slice_id, "call_last_sent_at = now()")
    before = contents(db)

    assert refusal(db).sqlstate == "ST002"
    assert contents(db) == before
