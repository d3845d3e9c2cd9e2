"""db/functions/dismiss.sql: what a person has dealt with is not shown any more, and who said so is kept."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, row, rows
from tests.support.events import event, ingest, refund
from tests.support.raw_transfers import run
from tests.support.tampering import let_days_pass
from tests.support.transfers import (
    call,
    claim,
    claimed_call,
    claimed_send,
    contents,
    lapse_lease,
    record_one,
    record_transfer,
    refusal,
    request_parts,
    sent,
    status_log,
    success,
    timeout,
)

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def dismiss(db: Database, problem_id: str) -> DictRow:
    (kept,) = call(db, "dismiss", p_problem_id=problem_id, p_reason="ticket 42")
    return kept


def problems(db: Database) -> list[str]:
    return [each["problem_id"] for each in rows(db, "select problem_id from marketplace.needs_attention_full")]


def moved_twice(db: Database) -> int:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    (looked,) = claim(db)
    record_one(db, timeout(looked))
    run(
        db,
        "update marketplace.seller_transfers"
        " set status = 'reversed', stripe_reversal_id = 'trr_0', call_unknown = false, next_retry_at = null",
    )
    record_one(db, success(lost))
    return int(lost["id"])


def test_money_that_moved_twice_is_shown_until_somebody_has_seen_to_it(db: Database) -> None:
    row_id = moved_twice(db)
    # However long ago.
    (shown,) = rows(db, "select * from marketplace.needs_attention_full")
    assert (shown["problem"], shown["is_urgent"]) == ("moved_twice", True)
    assert "Give it back at Stripe, by a transfer" in shown["why"]

    db.execute(shown["next_step"].replace("…", "given back by tr_9").encode())

    assert problems(db) == []
    kept = row(db, "select * from marketplace.dismissals")
    assert (kept["problem_id"], kept["problem"], kept["why"]) == (shown["problem_id"], "moved_twice", shown["why"])
    assert (kept["transfer_id"], kept["order_id"]) == (row_id, "order-1")
    assert (kept["reason"], kept["dismissed_by"]) == ("given back by tr_9", "postgres")
    assert status_log(db, row_id)[-1]["reason"] == "moved_twice was dismissed by postgres: given back by tr_9"


def test_what_the_machine_gave_up_is_written_off(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing"))
    dismiss(db, f"ended:{leased['id']}")
    assert problems(db) == []
    # The successor is another row: should it end, too, that is news.
    (successor,) = call(db, "reopen", p_id=leased["id"], p_reason="he pays after all")
    (looked,) = claim(db)
    record_one(db, refusal(looked, 404, "resource_missing"))
    assert problems(db) == [f"ended:{successor['id']}"]


def test_an_event_that_is_dismissed_is_tried_again_all_the_same(db: Database) -> None:
    call(db, "set_refunds_by", p_who="events", p_reason="they know")
    told = event("refund.created", refund(amount=500))
    ingest(db, told)
    (problem,) = problems(db)
    assert problem.startswith(f"event:{told['id']}:")

    dismiss(db, problem)

    assert problems(db) == []
    call(db, "retry_events")
    assert problems(db) == []
    record_transfer(db, p_source_charge="ch_1", p_charge_amount=1000)
    assert [each["amount"] for each in claim(db)] == [500]


def test_what_the_shop_sells_by_itself_is_dismissed_by_one_statement(db: Database) -> None:
    call(db, "set_refunds_by", p_who="events", p_reason="they know")
    record_transfer(db, 2, p_source_charge="ch_2")

    def told(n: int, days: int, **of: str | None) -> str:
        said = refund(f"re_{n}", 500, **of)
        came = ingest(db, event("refund.created", said, id=f"evt_{n}"))
        assert came["result"] == "kept"
        let_days_pass(db, f"evt_{n}", days)
        return f"evt_{n}"

    no_order, no_charge = told(1, 4), told(3, 4, charge=None, payment_intent="pi_3")
    fresh, no_amount = told(4, 2, charge="ch_4"), told(5, 4, charge="ch_2")

    def listed() -> set[str]:
        return {problem.split(":")[1] for problem in problems(db)}

    assert listed() == {no_order, no_charge, fresh, no_amount}
    [statement] = re.findall(r"^-- Refunds and disputes of what the shop sells.*\n([^;]*;)", README, re.MULTILINE)
    run(db, statement)
    assert listed() == {fresh, no_amount}

    # Its order was recorded late.
    record_transfer(db, p_source_charge="ch_1", p_charge_amount=1000)
    assert [each["amount"] for each in claim(db)] == [500]
    assert listed() == {fresh, no_amount}


def test_an_event_that_something_else_keeps_is_another_problem(db: Database) -> None:
    """Nobody's business, a person said; then its order turned up, and the refund is still not asked of the seller."""
    call(db, "set_refunds_by", p_who="events", p_reason="they know")
    ingest(db, event("refund.created", refund(amount=500)))
    (before,) = problems(db)
    dismiss(db, before)

    record_transfer(db, p_source_charge="ch_1")

    (after,) = problems(db)
    assert after != before
    assert "what charge ch_1 amounted to" in row(db, "select why from marketplace.needs_attention_full")["why"]


def test_more_than_was_dismissed_is_another_problem(db: Database) -> None:
    root_id = record_transfer(db)["id"]
    request_parts(db, {"key-1": 600})
    run(db, "update marketplace.reversal_request_lines set met = 400, unmet = 200")
    assert problems(db) == [f"unmet:{root_id}:200:re_1"]
    assert "2.00 USD (200)" in row(db, "select why from marketplace.needs_attention_full")["why"]

    dismiss(db, f"unmet:{root_id}:200:re_1")
    assert problems(db) == []

    run(db, "update marketplace.reversal_request_lines set met = 300, unmet = 300")
    assert problems(db) == [f"unmet:{root_id}:300:re_1"]


def test_a_problem_is_dismissed_once(db: Database) -> None:
    row_id = record_transfer(db, p_stripe_transfer_id=None)["id"]
    first = dismiss(db, f"no-id:{row_id}")
    before = contents(db)
    assert dismiss(db, f"no-id:{row_id}") == first
    assert contents(db) == before


def test_what_waits_is_not_over_by_being_dismissed(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, sent(leased, amount=1))
    call(db, "pause_stripe_calls", p_reason="an incident")
    for problem_id, names in ((f"parked:{leased['id']}", "retry_now("), ("paused", "resume_stripe_calls(")):
        with pytest.raises(psycopg.Error) as caught, db.transaction():
            dismiss(db, problem_id)
        assert caught.value.sqlstate == "ST002"
        assert names in str(caught.value.diag.message_hint)


def test_who_dismissed_what_stays(db: Database) -> None:
    dismiss(db, f"no-id:{record_transfer(db, p_stripe_transfer_id=None)['id']}")
    for change in ("update {} set reason = 'x'", "delete from {}", "truncate {}"):
        with pytest.raises(psycopg.Error) as caught, db.transaction():
            run(db, change.format("marketplace.dismissals"))
        assert caught.value.sqlstate == "ST002"
