"""docs/triage.md is so: each situation is made as it happens, what is typed is typed, what is shown is shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Thread
from typing import Any

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, rows, value
from tests.support.events import event, ingest
from tests.support.failovers import pass_since_failover
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.playbook import PLAYBOOK, psql, sections, timeless
from tests.support.tampering import let_days_pass
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claim_sends,
    create_transfer,
    record_one,
    record_transfer,
    refusal,
    request_reversal,
    timeout,
    transfer_object,
    transfers_found,
    without_jitter,
)

COLUMNS = 120
REQUEST = "re_1Pgc6xB7WZ01zgkWm2Lw0QyD"
CHARGE = "ch_3PgcA0B7WZ01zgkW0aXq"
DISPUTE = "dp_1PgcA0B7WZ01zgkW4cTw"
TWO = ("trr_1PgdA2B7WZ01zgkWc5Yt0LmE", "trr_1PgdA9B7WZ01zgkWq0TzR4uV")
NO_MONEY = "Insufficient funds in Stripe account."


def names(n: int = 1) -> dict[str, Any]:
    """82.50 euro of order o-1001 and on for seller s-1 and on."""
    said: dict[str, Any] = {"p_order_id": f"o-100{n}", "p_seller_id": f"s-{n}", "p_transfer_key": f"o-100{n}/s-{n}"}
    return {**said, "p_amount": 8250, "p_currency": "eur"}


def pay(db: Database, n: int = 1, **changes: Any) -> int:
    """The seller has been paid."""
    made = record_transfer(db, n, **{**names(n), **changes})
    return int(made["id"])


def refund(db: Database, n: int = 1) -> None:
    request_reversal(db, p_order_id=f"o-100{n}", p_reversal_request_id=REQUEST if n == 1 else f"{REQUEST}{n}")


def refunded(db: Database, n: int = 1) -> int:
    row_id = pay(db, n)
    refund(db, n)
    return row_id


# The situations, by the number of their section


def not_paid(db: Database) -> None:
    row_id = create_transfer(db, **names())["id"]
    db.execute("update marketplace.retry_policy set max_retries = 1 where verdict = 'transient'")
    for _ in range(2):
        leased = claim_post(db, row_id)
        record_one(db, refusal(leased, 400, "account_invalid", "This account cannot receive transfers."))


def claim_post(db: Database, row_id: int) -> DictRow:
    """The row's next request; a look-up before it finds nothing."""
    for _ in range(2):
        pass_time(db, row_id, "2 hours")
        (leased,) = claim_sends(db)
        if leased["action"] == "send":
            return leased
        record_one(db, transfers_found(leased))
    raise AssertionError


def unknown(db: Database) -> None:
    refunded(db)
    (leased,) = claim(db)
    record_one(db, timeout(leased))


def moved_twice(db: Database) -> None:
    unknown(db)
    find_both(db)


def find_both(db: Database) -> None:
    looked = claim_again(db, 1)
    record_one(db, seen(looked, *(ours(db, looked, each) for each in TWO), amount=16500))


def an_hour_later(db: Database) -> None:
    pass_time(db, 1, "1 hour 1 minute")


def key_refused(db: Database) -> None:
    refunded(db)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 401, None, "Invalid API Key provided: sk_live_*********************4eX0."))


def short_of_balance(db: Database) -> None:
    refunded(db)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 400, "balance_insufficient", NO_MONEY))
    pass_time(db, 1, "3 days")
    (looked,) = claim(db)
    record_one(db, seen(looked, amount=8250))
    (leased,) = claim(db)
    record_one(db, refusal(leased, 400, "balance_insufficient", NO_MONEY))


def event_kept(db: Database) -> None:
    call(db, "set_refunds_by", p_who="events", p_reason="the app no longer computes shares")
    pay(db)
    for n, of in enumerate((CHARGE, "ch_2OfbZ9A6VY90yfjV9zWp")):
        told = {"id": f"re_{n}PgcB1B7WZ01zgkW1bYr", "object": "refund", "amount": 9000, "charge": of}
        ingest(db, event("refund.created", {**told, "currency": "eur", "status": "succeeded"}, id=f"evt_{n}PgcB2"))
    # A charge becomes known by its amount: Stripe has told of the first.
    charge = {"id": CHARGE, "object": "charge", "amount": 9000, "currency": "eur"}
    ingest(db, event("charge.succeeded", {**charge, "status": "succeeded"}, id="evt_3PgcA3"))
    let_days_pass(db, "evt_1PgcB2", 4)


def reversed_by_hand(db: Database) -> None:
    pay(db)
    refunded(db, 2)
    (leased,) = claim(db)
    record_one(db, timeout(leased))
    refund(db)


def find_by_hand(db: Database) -> None:
    looked = claim_again(db, 1)
    record_one(db, seen(looked, foreign(looked, TWO[0], 8250), amount=8250))


def without_id(db: Database) -> None:
    pay(db, 1, p_stripe_transfer_id=None)
    pay(db, 2, p_stripe_transfer_id=None)
    refund(db, 2)
    assert claim(db) == []


def not_worth_it(db: Database) -> None:
    pay(db)
    refunded(db, 2)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such transfer: 'tr_2'"))
    refund(db)


def a_life(db: Database) -> None:
    refunded(db)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 400, "balance_insufficient", NO_MONEY))
    call(db, "retry_now", p_id=1, p_reason="the seller has topped up, ticket 42")
    (looked,) = claim(db)
    record_one(db, seen(looked, foreign(looked, TWO[0], 8250), amount=8250))
    call(db, "pause_stripe_calls", p_reason="Stripe has an incident")
    call(db, "resume_stripe_calls", p_reason="it is over")
    pay(db, 2, p_stripe_transfer_id=None)
    call(db, "dismiss", p_problem_id="no-id:2", p_reason="from before we kept them; nobody asks")


def no_runner(db: Database) -> None:
    refunded(db)
    db.execute("update marketplace.runners set last_seen_at = now() - interval '1 hour'")


def sent_for_less(db: Database) -> None:
    row_id = create_transfer(db, **names())["id"]
    call(db, "look_up_first", p_reason="a standby took over")
    pass_since_failover(db, "2 hours")
    looked = claim_sends(db)[0]
    made = transfer_object(looked, "tr_1Pgc7BB7WZ01zgkWVJfE40RX", amount=6000)
    record_one(db, transfers_found(looked, made))
    assert row_id == 1


def paid_by_hand(db: Database) -> None:
    create_transfer(db, **names())
    (leased,) = claim_sends(db)
    record_one(db, timeout(leased))
    pass_time(db, 1, "2 hours")
    (looked,) = claim_sends(db)
    made = transfer_object(looked, "tr_1Pgc7BB7WZ01zgkWVJfE40RX", metadata={})
    record_one(db, transfers_found(looked, made))


def of_charge(db: Database, n: int, type: str, object_id: str, **said: Any) -> None:
    """An event of order o-1001's charge, or of a refund or dispute of it."""
    of = {} if object_id == CHARGE else {"charge": CHARGE}
    told = {"id": object_id, "object": type.split(".")[0], "currency": "eur", "status": "succeeded", **of, **said}
    ingest(db, event(type, told, id=f"evt_{n}PgcB2"))


def come_back(db: Database) -> None:
    """The funds of a dispute are withdrawn; then some are reinstated, to a balance in another currency."""
    call(db, "set_refunds_by", p_who="events", p_reason="the app no longer computes shares")
    pay(db, 1, p_amount=9000, p_source_charge=CHARGE, p_charge_amount=10000)
    said = {"amount": 8000, "status": "needs_response"}
    of_charge(db, 1, "charge.dispute.funds_withdrawn", DISPUTE, **said)
    moved = [{"amount": -9210, "currency": "usd"}, {"amount": 6930, "currency": "usd"}]
    said = {"amount": 8000, "status": "lost", "balance_transactions": moved}
    of_charge(db, 2, "charge.dispute.funds_reinstated", DISPUTE, **said)


def perhaps_released(db: Database) -> None:
    """Of 100.00 that were authorized 60.00 were captured; there is a refund of 40.00."""
    call(db, "set_refunds_by", p_who="events", p_reason="the app no longer computes shares")
    pay(db, 1, p_amount=5400, p_source_charge=CHARGE)
    amounts = {"amount": 10000, "amount_captured": 6000, "amount_refunded": 4000, "captured": True}
    of_charge(db, 1, "charge.refunded", CHARGE, **amounts)
    of_charge(db, 2, "refund.created", REQUEST, amount=4000, created=1234567890)


def looked_again(db: Database) -> None:
    """Nothing is found under the rest's own name."""
    looked = claim_sends(db)[0]
    record_one(db, transfers_found(looked))


SITUATIONS: dict[int, Callable[[Database], object]] = {
    1: not_paid,
    2: unknown,
    3: moved_twice,
    4: key_refused,
    5: short_of_balance,
    6: event_kept,
    7: reversed_by_hand,
    8: without_id,
    9: not_worth_it,
    10: a_life,
    11: refunded,
    12: no_runner,
    13: sent_for_less,
    14: paid_by_hand,
    15: come_back,
    16: perhaps_released,
}
EVENTS: dict[str, Callable[[Database], None]] = {
    "an hour later": an_hour_later,
    "the look-up finds both again": find_both,
    "the look-up finds nothing of it": looked_again,
    "the look-up finds what Ben did": find_by_hand,
}


@contextmanager
def somebody_in_the_way(connect: Connect) -> Iterator[None]:
    """One holds the order in an open transaction, and one waits for it."""
    holder = connect(autocommit=False, application_name="psql of Ben")
    holder.execute("select from marketplace.add_note(1, 'looking into it')")
    waiter = connect(application_name="shop")
    asking = Thread(target=waiter.execute, args=["select from marketplace.add_note(1, 'refunded')"], daemon=True)
    asking.start()
    db = connect()
    while not value(db, "select exists (select from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0)"):
        pass
    try:
        yield
    finally:
        asking.join(timeout=20)
    assert holder.broken or holder.closed or not asking.is_alive()
    assert rows(db, "select from marketplace.transfer_status_log where reason = 'refunded'")


@pytest.mark.parametrize("title", sections())
def test_what_is_typed_does_and_shows_what_the_playbook_says(connect: Connect, title: str) -> None:
    db = connect()
    without_jitter(db)
    number = int(title.split(".")[0]) if title[0].isdigit() else 0
    if number:
        SITUATIONS[number](db)
    with somebody_in_the_way(connect) if number == 11 else nullcontext():
        for step in sections()[title]:
            if step.event:
                EVENTS[step.event](db)
            elif step.sql:
                printed = psql(db.info.dsn, step.sql)
                assert [line for line in printed.splitlines() if len(line) > COLUMNS] == []
                assert step.shown is None or timeless(step.shown) == timeless(printed), printed
                assert step.shown is not None or "(0 rows)" in printed


def test_there_are_ten_situations_and_more() -> None:
    assert len([title for title in sections() if title[0].isdigit()]) == len(SITUATIONS) >= 10
    assert {step.event for steps in sections().values() for step in steps if step.event} == set(EVENTS)
    assert "(docs/triage.md)" in (PLAYBOOK.parents[1] / "README.md").read_text("utf-8")
