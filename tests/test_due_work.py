"""db/functions/due_work.sql: what claims would return next, and what each row waits for."""

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, rows
from tests.support.look_ups import pass_time
from tests.support.raw_transfers import run
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    claimed_send,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_parts,
    sent,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def due_work(db: Database) -> list[DictRow]:
    return rows(db, "select * from marketplace.due_work")


def test_it_foretells_what_is_claimed_in_its_order(db: Database) -> None:
    lost = claimed_call(db, 6)
    unknown = claimed_send(db, 1)
    record_one(db, timeout(unknown))
    refused = claimed_call(db, 2)
    record_one(db, refusal(refused, 400, "balance_insufficient"))
    record_transfer(db, 3)
    request_parts(db, {"key-3": 400}, "re_3", p_order_id="order-3")
    create_transfer(db, 4)
    refunded_transfer(db, 5)
    for each, passed in ((unknown, "3 hours"), (refused, "2 hours")):
        pass_time(db, each["id"], passed)
    lapse_lease(db, lost["id"])

    foretold = {each["transfer_id"]: each["action"] for each in due_work(db)}

    claimed = {each["id"]: each["action"] for each in [*claim(db), *claim_sends(db)]}
    # A lost lease waits for some seconds more, which are counted from the claim.
    assert {row_id: foretold[row_id] for row_id in claimed} == claimed
    assert foretold[lost["id"]] == "look_up_reversals"


def test_each_row_says_what_it_waits_for(db: Database) -> None:
    under_way = claimed_call(db, 1)
    waiting = claimed_send(db, 2)
    record_one(db, refusal(waiting, 400, "balance_insufficient", "Too little there."))
    parked = claimed_send(db, 7)
    record_one(db, sent(parked, amount=1))
    new = create_transfer(db, 3, p_amount=500, p_currency="jpy")
    root = record_transfer(db, 4)["id"]
    one, two = (request_parts(db, {"key-4": 400}, name, p_order_id="order-4")[0]["id"] for name in ("re_4", "re_5"))
    assert {each["id"] for each in claim(db, 1)} == {one}
    db.execute("update marketplace.seller_transfers set next_retry_at = now() where id = %s", [two])
    without_id = refunded_transfer(db, 6, p_stripe_transfer_id=None)["id"]

    found = {each["transfer_id"]: each for each in due_work(db)}

    assert root not in found
    assert parked["id"] not in found
    said = {row_id: (each["action"], each["waits_for"].replace("\n", " ")) for row_id, each in found.items()}
    assert said == {
        under_way["id"]: ("reverse", "Under way: worker-1"),
        waiting["id"]: ("look_up_transfer", "insufficient_balance: Too little there."),
        new["id"]: ("send", "Due: the next free runner takes it."),
        one: ("look_up_reversals", "Under way: worker-1"),
        two: ("look_up_reversals", "Another part of the transfer is under way."),
        without_id: ("none: no Stripe id", "Due: the next free runner takes it."),
    }
    shown = found[new["id"]]
    assert (shown["order_id"], shown["amount"], shown["amount_in_words"]) == ("order-3", 500, "500 JPY")
    assert shown["due_in"].total_seconds() <= 0
    assert found[waiting["id"]]["due_in"].total_seconds() > 3000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("marketplace.pause_stripe_calls('x')", "Calls are paused by a person."),
        (
            "(select marketplace._pause_by_verdict('x', now(), now())) as c",
            "Calls are paused by verdict, but for a trial.",
        ),
        ("marketplace.look_up_first('x')", "No calls at first after look_up_first."),
    ],
)
def test_what_keeps_all_calls_back_is_said_of_each(db: Database, change: str, said: str) -> None:
    create_transfer(db)
    run(db, f"select from {change}")
    assert [each["waits_for"].replace("\n", " ") for each in due_work(db)] == [said]


def test_a_worker_that_is_silent_is_named(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    (shown,) = due_work(db)
    assert (shown["action"], shown["waits_for"].replace("\n", " ")) == (
        "look_up_reversals",
        "Due: worker-1 has not reported.",
    )


def test_what_is_done_is_not_due(db: Database) -> None:
    record_one(db, success(claimed_call(db, 1)))
    record_one(db, sent(claimed_send(db, 2)))
    assert due_work(db) == []
    call(db, "pause_stripe_calls", p_reason="x")
    assert due_work(db) == []
