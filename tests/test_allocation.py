"""db/functions/allocation.sql: a refund that asks for a part of an order's money."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.raw_transfers import enter, update_transfer
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    at_commit,
    claim,
    contents,
    create_transfer,
    family,
    record_one,
    record_transfer,
    request_lines,
    request_parts,
    request_reversal,
    success,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def shape(db: Database, root_id: int) -> list[tuple[str, int, str | None, int | None]]:
    """A family: status, amount, request and part of each row."""
    return [
        (each["status"], each["amount"], each["reversal_request_id"], each["call_part"]) for each in family(db, root_id)
    ]


def refusal(db: Database, parts: dict[str, int], request: str = "re_1") -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        request_parts(db, parts, request)
    return refused.value.diag


def test_a_part_is_taken_and_the_rest_stays_with_the_seller(db: Database) -> None:
    paid = record_transfer(db)
    other = record_transfer(db, 2, p_order_id="order-1")

    (taken,) = request_parts(db, {"key-1": 300})

    at_commit(db)
    assert (taken["root_id"], taken["amount"], taken["status"]) == (paid["id"], 300, "reversal_pending")
    assert shape(db, paid["id"]) == [("completed", 700, None, None), ("reversal_pending", 300, "re_1", 1)]
    assert transfer(db, other["id"]) == other
    assert request_lines(db) == [("key-1", 300, 300, 0)]
    assert row(db, "select is_whole from marketplace.reversal_requests") == {"is_whole": False}


def test_several_transfers_give_each_its_part(db: Database) -> None:
    first = record_transfer(db)
    second = record_transfer(db, 2, p_order_id="order-1", p_amount=250)
    third = create_transfer(db, 3, p_order_id="order-1")

    taken = request_parts(db, {"key-3": 1, "key-2": 250, "key-1": 999})

    at_commit(db)
    assert [(each["amount"], each["status"]) for each in taken] == [
        (250, "reversal_pending"),
        (999, "reversal_pending"),
        (1, "permanently_failed"),
    ]
    assert shape(db, first["id"]) == [("completed", 1, None, None), ("reversal_pending", 999, "re_1", 1)]
    assert shape(db, second["id"]) == [("reversal_pending", 250, "re_1", 1)]
    assert shape(db, third["id"]) == [("pending", 999, None, None), ("permanently_failed", 1, "re_1", 1)]
    assert request_lines(db) == [("key-1", 999, 999, 0), ("key-2", 250, 250, 0), ("key-3", 1, 1, 0)]


def test_a_row_that_is_asked_for_whole_is_not_split(db: Database) -> None:
    paid = record_transfer(db)

    (taken,) = request_parts(db, {"key-1": 1000})

    assert taken["id"] == paid["id"]
    assert shape(db, paid["id"]) == [("reversal_pending", 1000, "re_1", 1)]


def test_part_after_part_until_nothing_is_left(db: Database) -> None:
    paid = record_transfer(db)

    for n, amount in enumerate((400, 400, 199), start=1):
        request_parts(db, {"key-1": amount}, f"re_{n}")
    diag = refusal(db, {"key-1": 2}, "re_4")
    request_parts(db, {"key-1": 1}, "re_5")

    at_commit(db)
    assert diag.sqlstate == "ST005"
    assert shape(db, paid["id"]) == [
        ("reversal_pending", 1, "re_5", 1),
        ("reversal_pending", 400, "re_1", 1),
        ("reversal_pending", 400, "re_2", 1),
        ("reversal_pending", 199, "re_3", 1),
    ]
    assert refusal(db, {"key-1": 1}, "re_6").sqlstate == "ST005"
    assert len({each["idempotency_key"] for each in rows(
        db, "select marketplace._current_key(t) as idempotency_key from marketplace.seller_transfers as t"
    )}) == 4  # fmt: skip


def test_rows_are_taken_in_id_order_each_as_the_next_part_and_the_last_is_split(db: Database) -> None:
    paid = record_transfer(db)
    for amount in (300, 300):  # as rows that were given back to the seller will stand
        value(db, "select marketplace._split_transfer(%(id)s, %(amount)s)", id=paid["id"], amount=amount)

    taken = request_parts(db, {"key-1": 750})

    at_commit(db)
    assert shape(db, paid["id"]) == [
        ("reversal_pending", 400, "re_1", 1),
        ("reversal_pending", 300, "re_1", 2),
        ("completed", 250, None, None),
        ("reversal_pending", 50, "re_1", 3),
    ]
    assert [each["call_part"] for each in taken] == [1, 2, 3]
    assert request_lines(db) == [("key-1", 750, 750, 0)]


def test_everything_means_all_that_is_left_of_each_family(db: Database) -> None:
    paid = record_transfer(db)
    value(db, "select marketplace._split_transfer(%(id)s, 300)", id=paid["id"])
    request_parts(db, {"key-1": 100})
    record_transfer(db, 2, p_order_id="order-1")
    request_parts(db, {"key-2": 1000}, "re_2")

    taken = request_reversal(db, p_reversal_request_id="re_3")

    at_commit(db)
    assert shape(db, paid["id"]) == [
        ("reversal_pending", 600, "re_3", 1),
        ("reversal_pending", 300, "re_3", 2),
        ("reversal_pending", 100, "re_1", 1),
    ]
    assert [each["amount"] for each in taken] == [600, 300]
    assert request_lines(db, "re_3") == [("key-1", 900, 900, 0)]


def test_more_than_is_left_is_refused_by_name_and_number_and_nothing_of_the_request_happens(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1")
    request_parts(db, {"key-2": 600})
    before = contents(db)

    diag = refusal(db, {"key-1": 5, "key-2": 401}, "re_2")

    assert (diag.sqlstate, diag.column_name) == ("ST005", "p_allocation")
    assert json.loads(diag.message_detail or "") == {"transfer_key": "key-2", "asked": 401, "left": 400}
    assert diag.message_hint
    assert contents(db) == before


def test_what_is_given_up_or_back_already_is_not_left_and_what_is_in_flight_is(db: Database) -> None:
    for n in (1, 2, 3, 4):
        record_transfer(db, n, p_order_id="order-1")
    create_transfer(db, 5, p_order_id="order-1")
    for n, end in ((2, "reversal_pending"), (3, "reversed"), (4, "permanently_failed")):
        request_parts(db, {f"key-{n}": 400}, f"re_{n}")
        slice_id = value(db, "select max(id) from marketplace.seller_transfers")
        if end != "reversal_pending":
            enter(db, slice_id, end)
    db.execute("update marketplace.seller_transfers set call_unknown = true where transfer_key = 'key-5'")

    for n, left in ((1, 1000), (2, 600), (3, 600), (4, 600), (5, 1000)):
        detail = refusal(db, {f"key-{n}": left + 1}, "re_x").message_detail
        assert json.loads(detail or "")["left"] == left, n

    request_reversal(db, p_reversal_request_id="re_all")
    assert request_lines(db, "re_all") == [
        ("key-1", 1000, 1000, 0),
        ("key-2", 600, 600, 0),
        ("key-3", 600, 600, 0),
        ("key-4", 1000, 600, 400),
        ("key-5", 1000, 0, 1000),
    ]


def test_keys_are_of_this_order(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2)
    for key in ("key-2", "key-of-nobody"):
        diag = refusal(db, {"key-1": 1, key: 1})
        assert (key, diag.sqlstate, diag.column_name) == (key, "22023", "p_allocation")
        assert diag.message_hint


def test_the_same_request_in_any_order_changes_nothing(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1")
    taken = request_parts(db, {"key-1": 300, "key-2": 1000})
    before = contents(db)

    assert request_parts(db, {"key-2": 1000, "key-1": 300}) == taken
    decimal = Jsonb([{"amount": 300.0, "transfer_key": "key-1"}, {"transfer_key": "key-2", "amount": 1e3}])
    assert request_reversal(db, p_allocation=decimal) == taken
    assert contents(db) == before


def test_a_known_request_with_another_allocation_is_refused(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1")
    request_parts(db, {"key-1": 300})
    request_reversal(db, p_reversal_request_id="re_2")
    before = contents(db)

    others: list[dict[str, Any]] = [
        {},
        {"parts": {"key-1": 301}},
        {"parts": {"key-1": 300, "key-2": 1}},
        {"parts": {"key-2": 300}},
        {"parts": {"key-1": 300}, "p_reason": "dispute"},
        {"parts": {"key-1": 300}, "p_order_id": "order-2"},
        {"parts": {"key-1": 700, "key-2": 1000}, "request": "re_2"},
    ]
    for other in others:
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            request_parts(db, **other) if "parts" in other else request_reversal(db, **other)
        diag = refused.value.diag
        assert (other, diag.sqlstate, diag.constraint_name) == (other, "ST003", "pk_reversal_requests")
        assert diag.message_hint

    assert contents(db) == before


def test_a_request_for_a_part_does_not_take_what_is_recorded_later(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 300})

    late = record_transfer(db, 2, p_order_id="order-1")
    request_reversal(db, p_reversal_request_id="re_2")
    later = record_transfer(db, 3, p_order_id="order-1")

    assert late["status"] == "completed"
    assert (later["status"], later["reversal_request_id"]) == ("reversal_pending", "re_2")


@pytest.mark.parametrize(
    ("currency", "paid", "taken", "refused"),
    [
        ("jpy", 500, (1, 499), ()),
        ("usd", 1050, (1, 1049), ()),
        ("kwd", 5120, (10, 5110), (1, 5, 5119)),
        ("isk", 50000, (100, 49900), (1, 10, 49950)),
    ],
)
def test_no_part_is_finer_than_stripe_takes(
    db: Database, currency: str, paid: int, taken: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    record_transfer(db, p_currency=currency, p_amount=paid)
    for amount in refused:
        diag = refusal(db, {"key-1": amount})
        assert (amount, diag.sqlstate, diag.column_name) == (amount, "22023", "p_allocation")
        assert diag.message_hint
    for n, amount in enumerate(taken):
        request_parts(db, {"key-1": amount}, f"re_{n}")
    at_commit(db)


def test_all_that_is_left_can_be_asked_for_whatever_it_comes_to(db: Database) -> None:
    paid = record_transfer(db, p_currency="kwd", p_amount=5125)  # made before Stripe asked for a 0 at the end
    request_parts(db, {"key-1": 5000})
    request_parts(db, {"key-1": 125}, "re_2")
    assert [each["amount"] for each in family(db, paid["id"])] == [125, 5000]


def test_each_currency_has_the_quantum_stripe_documents(db: Database) -> None:
    found = rows(
        db,
        "select quantum, string_agg(currency, ' ' order by currency) as currencies from marketplace.currencies"
        " where quantum > 1 group by quantum order by quantum",
    )
    assert [tuple(each.values()) for each in found] == [(10, "bhd jod kwd omr tnd"), (100, "isk ugx")]


@pytest.mark.parametrize("committed", [True, False])
def test_two_requests_at_once_take_no_more_than_is_left(connect: Connect, committed: bool) -> None:
    db = connect()
    paid = record_transfer(db)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction(force_rollback=not committed):
            request_parts(db, {"key-1": 600})
            other = pool.submit(request_parts, second, {"key-1": 600}, "re_2")
            wait_until_blocked(connect(), second)
        if committed:
            with pytest.raises(psycopg.Error) as refused:
                other.result()
            assert refused.value.sqlstate == "ST005"
        else:
            other.result()
    assert [each["amount"] for each in family(db, paid["id"])] == [400, 600]


def test_a_claim_does_not_wait_for_a_request_and_takes_its_slice_once_it_is_committed(connect: Connect) -> None:
    db = connect()
    record_transfer(db)
    second = impatient(connect)
    with db.transaction():
        (taken,) = request_parts(db, {"key-1": 300})
        assert claim(second) == []
    (leased,) = claim(second)
    assert (leased["id"], leased["amount"], leased["stripe_transfer_id"]) == (taken["id"], 300, "tr_1")


def test_a_request_waits_for_an_outcome_and_finds_its_row_back_already(connect: Connect) -> None:
    db = connect()
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1")
    request_parts(db, {"key-1": 1000})
    (leased,) = claim(db)
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            record_one(db, success(leased))
            request = pool.submit(request_reversal, second, p_reversal_request_id="re_2")
            wait_until_blocked(connect(), second)
        taken = request.result()
    assert [(each["amount"], each["stripe_transfer_id"]) for each in taken] == [(1000, "tr_2")]
    assert request_lines(db, "re_2") == [("key-2", 1000, 1000, 0)]


def test_an_outcome_of_a_slice_waits_for_a_request_and_is_recorded_after_it(connect: Connect) -> None:
    db = connect()
    paid = record_transfer(db)
    (taken,) = request_parts(db, {"key-1": 300})
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            request_parts(db, {"key-1": 200}, "re_2")
            ending = pool.submit(
                update_transfer,
                second,
                taken["id"],
                "status = 'reversed', next_retry_at = null, stripe_reversal_id = 'trr_1'",
            )
            wait_until_blocked(connect(), second)
        ending.result()
    assert shape(db, paid["id"]) == [
        ("completed", 500, None, None),
        ("reversed", 300, "re_1", 1),
        ("reversal_pending", 200, "re_2", 1),
    ]
