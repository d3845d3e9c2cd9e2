"""db/functions/needs_attention.sql: one line per problem that waits for a person, with what to type next."""

import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows
from tests.support.events import event, ingest
from tests.support.look_ups import ours, pass_time, seen
from tests.support.stripe_lists import begin, compared, listed_transfer
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claimed_call,
    claimed_send,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_reversal,
    sent,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)

Line = tuple[str, int | None, str | None, str]


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def lines(db: Database) -> list[Line]:
    """Problem, row, order and next step; each says why and since when."""
    found = call(db, "read_needs_attention")
    assert all(line["why"] and line["needed_since"] for line in found)
    return [(line["problem"], line["transfer_id"], line["order_id"], line["next_step"]) for line in found]


def test_work_that_goes_on_by_itself_needs_nobody(db: Database) -> None:
    record_one(db, refusal(claimed_call(db, 1), 400, "balance_insufficient"))
    record_one(db, timeout(claimed_send(db, 2)))
    create_transfer(db, 3)
    record_transfer(db, 4)
    create_transfer(db, 5)
    request_reversal(db, 5)
    refunded_transfer(db, 6)
    assert lines(db) == []


def test_a_parked_row_is_tried_again_by_a_person(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, sent(leased, amount=1))

    ((problem, row, order, step),) = lines(db)

    assert (problem, row, order) == ("parked", leased["id"], "order-1")
    db.execute(step.replace("…", "looked into it").encode())
    assert lines(db) == []


@pytest.mark.parametrize("paid", [True, False])
def test_what_was_given_up_is_reopened(db: Database, paid: bool) -> None:
    leased = claimed_call(db) if paid else claimed_send(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such thing."))

    ((problem, row, order, step),) = lines(db)

    assert (problem, row, order) == ("not taken back" if paid else "not paid", leased["id"], "order-1")
    db.execute(step.replace("…", "the id was right").encode())
    assert lines(db) == []


def test_a_transfer_without_its_stripe_id_is_given_one(db: Database) -> None:
    early = record_transfer(db, 1, p_stripe_transfer_id=None)["id"]
    late = record_transfer(db, 2, p_stripe_transfer_id=None)["id"]
    request_reversal(db, 2)
    assert claim(db) == []

    found = lines(db)

    assert [(problem, row) for problem, row, _, _ in found] == [("no Stripe id", early), ("not taken back", late)]
    for n, (_, _, _, step) in enumerate(found):
        db.execute(step.replace("tr_…", f"tr_{n}").replace("…", "found it").encode())
    assert lines(db) == []


def test_money_that_moved_twice_is_shown(db: Database) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    (looked,) = claim(db)
    record_one(db, timeout(looked))
    db.execute(
        "update marketplace.seller_transfers"
        " set status = 'reversed', stripe_reversal_id = 'trr_0', call_unknown = false, next_retry_at = null"
    )
    record_one(db, success(lost))
    assert [line[:3] for line in lines(db)] == [("moved_twice", lost["id"], "order-1")]


def test_an_event_that_waits_says_what_to_type(db: Database) -> None:
    call(db, "set_refunds_by", p_who="events", p_reason="they know")
    record_transfer(db, p_source_charge="ch_1")
    refund = {"id": "re_1", "object": "refund", "charge": "ch_1", "amount": 500, "currency": "usd"}
    ingest(db, event("refund.created", {**refund, "status": "succeeded"}))

    ((problem, _, order, step),) = lines(db)

    assert (problem, order) == ("event kept", "order-1")
    db.execute(step.replace("…", "1000").encode())
    assert lines(db) == []
    assert [each["amount"] for each in claim(db)] == [500]


def test_more_than_is_left_stays_in_sight(db: Database) -> None:
    record_transfer(db)
    request_reversal(db, p_allocation=Jsonb([{"transfer_key": "key-1", "amount": 600}]))
    db.execute(
        "update marketplace.reversal_request_lines set met = 400, unmet = 200"  # as an event would leave it
    )
    assert [line[0] for line in lines(db)] == ["unmet"]


def test_what_the_last_comparison_with_stripe_found_is_one_line_for_a_week(db: Database) -> None:
    row = record_transfer(db)["id"]
    missing, there = compared(db), listed_transfer(1)
    assert [each["transfer_id"] for each in missing] == [None, row]
    ((problem, _, _, step),) = lines(db)
    assert problem == "differs from Stripe"
    assert db.execute(step.encode()).fetchall() == missing

    with db.transaction(force_rollback=True):
        db.execute("update marketplace.reconcile_runs set finished_at = finished_at - interval '8 days'")
        assert lines(db) == []
    # One that ended early has nothing to say.
    call(db, "finish_reconcile", p_run_id=begin(db), p_trouble="Stripe gives no answer")
    assert len(lines(db)) == 1
    assert compared(db, there) == []
    assert lines(db) == []


def test_a_pause_says_how_it_ends(db: Database) -> None:
    call(db, "pause_stripe_calls", p_reason="Stripe has an incident")
    ((problem, _, _, step),) = lines(db)
    assert problem == "paused"
    db.execute(step.replace("…", "it is over").encode())
    assert lines(db) == []


def test_what_only_a_person_can_choose_is_marked_once_it_is_certain(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    looked = claim_again(db, leased["id"])
    two = (ours(db, looked, "trr_a"), ours(db, looked, "trr_b"))
    record_one(db, seen(looked, *two, amount=2000))
    ((_, _, _, step),) = lines(db)
    assert "marketplace.retry_now(" in step
    pass_time(db, leased["id"], "2 hours")
    db.execute(step.replace("…", "it is quiet").encode())
    (looked,) = claim(db)
    record_one(db, seen(looked, *two, amount=2000))

    ((_, _, _, step),) = lines(db)

    db.execute(step.replace("trr_…", "trr_b").replace("…", "the other one was given back").encode())
    assert lines(db) == []


def test_for_eyes_it_is_said_in_a_few_lines_that_can_be_run(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such transfer: " + "x" * 300))
    (shown,) = rows(db, "select * from marketplace.needs_attention")
    said = shown["why_and_next_step"].split("\n")
    assert (shown["problem"], shown["transfer_id"]) == ("not taken back", leased["id"])
    assert said[0] == "order order-1, 10.00 USD (1000): resource_missing: No such"
    assert max(map(len, said)) == 60
    db.execute(said[-1].replace("…", "the id was right").encode())
    assert lines(db) == []
