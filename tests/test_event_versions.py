"""Events as Stripe renders them in one API version or another: acted on, visibly ignored, or kept with what to do.

One table, one transaction: each case begins with 90 that were paid from a charge of 100.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from runner.event import NotAnEvent, parse_event
from tests.support.databases import Database
from tests.support.events import (
    Event,
    asked,
    by_events,
    charge,
    dispute,
    event,
    ingest,
    kept,
    moved,
    refund,
    stripe_transfer,
)
from tests.support.transfers import call, record_transfer

pytest_plugins = ("tests.support.rolled_back",)

CH = "ch_1"


def of_dispute(what: str, status: str, *amounts: int, **changes: Any) -> Event:
    return event(f"charge.dispute.{what}", dispute(status=status, balance_transactions=moved(*amounts), **changes))


def without(object_: Event, *names: str) -> Event:
    return {name: value for name, value in object_.items() if name not in names}


@dataclass(frozen=True)
class Case:
    """An event, what becomes of it, a part of what it says, and what is asked of the seller then."""

    event: Event
    result: str
    says: str
    asked: int = 0
    charge: str = CH
    before: list[Event] = field(default_factory=list)


INTENT = {"id": "pi_1", "object": "payment_intent", "amount": 100, "latest_charge": "ch_1"}
BY_INTENT = refund(charge=None, payment_intent="pi_1")

CASES = {
    # Refunds
    "refund.created, since 2024": Case(event("refund.created", refund()), "acted", "asked for 45", 45),
    "charge.refund.updated, before": Case(event("charge.refund.updated", refund()), "acted", "asked for 45", 45),
    "charge expanded": Case(event("refund.updated", refund(charge=charge())), "acted", "asked for 45", 45),
    "charge and intent expanded": Case(
        event("refund.updated", refund(charge=charge(payment_intent=INTENT), payment_intent=INTENT)), "acted", "45", 45
    ),
    "payment intent alone": Case(event("refund.updated", BY_INTENT), "acted", "asked for 45", 45),
    "payment intent alone, expanded": Case(
        event("refund.updated", {**BY_INTENT, "payment_intent": INTENT}), "acted", "asked for 45", 45
    ),
    "charge missing altogether": Case(event("refund.updated", without(BY_INTENT, "charge")), "acted", "45", 45),
    "neither charge nor intent": Case(
        event("refund.updated", without(refund(), "charge")), "kept", "no charge is known for payment intent (none"
    ),
    "refund of a source payment": Case(
        event("refund.updated", refund("pyr_1", charge="py_1")), "acted", "asked for 45", 45, "py_1"
    ),
    "refund of another object": Case(
        event("refund.updated", refund(charge="cpmt_1")), "kept", "no order is known for charge cpmt_1"
    ),
    "refund.failed": Case(
        event("refund.failed", refund(status="failed")),
        "acted",
        "is withdrawn",
        before=[event("refund.updated", refund())],
    ),
    "charge.refund.updated to failed, before refund.failed was": Case(
        event("charge.refund.updated", refund(status="failed")),
        "acted",
        "is withdrawn",
        before=[event("charge.refund.updated", refund())],
    ),
    "no status, as once": Case(event("charge.refund.updated", without(refund(), "status")), "kept", "status"),
    # A refund is told by an event of its own: neither the sum nor the list asks for anything.
    "charge.refunded without its refunds, since 2022-11-15": Case(
        event("charge.refunded", charge(amount_refunded=50)), "acted", "charge ch_1 is noted"
    ),
    "charge.refunded with them, before": Case(
        event("charge.refunded", charge(amount_refunded=50, refunds={"object": "list", "data": [refund()]})),
        "acted",
        "charge ch_1 is noted",
    ),
    "a charge of which amount_captured is not told": Case(
        event("charge.succeeded", without(charge(), "amount_captured")), "acted", "charge ch_1 is noted"
    ),
    # Disputes
    "inquiry opened": Case(of_dispute("created", "warning_needs_response"), "acted", "nothing is asked before"),
    "inquiry under review": Case(of_dispute("updated", "warning_under_review"), "acted", "nothing is asked before"),
    "inquiry closed": Case(of_dispute("closed", "warning_closed"), "acted", "is warning_closed: nothing is asked"),
    "prevented": Case(of_dispute("closed", "prevented"), "acted", "is prevented: nothing is asked before"),
    "a status that is not known yet": Case(of_dispute("updated", "odd_new_one"), "acted", "is odd_new_one: nothing"),
    "created, with the withdrawal": Case(of_dispute("created", "needs_response", -100), "acted", "were withdrawn", 90),
    "charge and intent of the dispute expanded": Case(
        of_dispute("funds_withdrawn", "needs_response", -100, charge=charge(), payment_intent=INTENT),
        "acted",
        "were withdrawn: asked for 90 usd of key-1",
        90,
    ),
    "dispute that names only its intent": Case(
        of_dispute("funds_withdrawn", "needs_response", -100, charge=None, payment_intent="pi_1"), "acted", "90", 90
    ),
    "lost, and funds_withdrawn was missed": Case(of_dispute("closed", "lost", -100), "acted", "were withdrawn", 90),
    "lost, and nothing was withdrawn": Case(of_dispute("closed", "lost"), "acted", "is lost: nothing is asked before"),
    "lost, and it is not told whether anything was": Case(
        event("charge.dispute.closed", without(dispute(status="lost"), "balance_transactions")),
        "kept",
        "is lost, and nobody told whether its funds were withdrawn",
    ),
    "lost, as it is told later than the withdrawal": Case(
        event("charge.dispute.closed", without(dispute(status="lost"), "balance_transactions")),
        "acted",
        "were withdrawn",
        90,
        before=[of_dispute("funds_withdrawn", "needs_response")],
    ),
    "lost in part": Case(of_dispute("closed", "lost", -100, 60), "acted", "came back but for 40 of 100 usd", 36),
    "withdrawn in two parts": Case(of_dispute("closed", "lost", -90, -10, 60), "acted", "but for 40 of 100", 36),
    "more came back than was taken": Case(of_dispute("closed", "lost", -100, 101), "acted", "is over"),
    "won, as it is told before anything else": Case(of_dispute("closed", "won"), "acted", "is over"),
    "dispute of a payment that is no card's": Case(
        of_dispute("funds_withdrawn", "lost", -100, charge="py_1"), "acted", "were withdrawn", 90, "py_1"
    ),
    "amounts of money that are none": Case(
        event(
            "charge.dispute.closed", dispute(status="lost", balance_transactions=[{"amount": 1e300, "currency": "usd"}])
        ),
        "acted",
        "nothing is asked before its funds",
    ),
    # Elsewhere
    "of a connected account": Case(
        event("charge.dispute.funds_withdrawn", dispute(), account="acct_seller"), "ignored", "acct_seller"
    ),
    "of another mode": Case(event("refund.updated", refund(), livemode=True), "ignored", "live mode"),
    "under a test clock": Case(
        event("refund.updated", refund(created=4102444800), created=4102444800), "acted", "asked for 45", 45
    ),
    "rendered in the newest version": Case(
        event("refund.updated", refund(), api_version="2099-01-01.zinnia"), "acted", "asked for 45", 45
    ),
    "of a payout": Case(event("payout.failed", {"id": "po_1", "object": "payout"}), "ignored", "not acted on"),
    "of a transfer nobody knows": Case(
        event("transfer.created", stripe_transfer("tr_9", source_transaction=charge())), "ignored", ""
    ),
}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    by_events(rolled_back_db)
    values = {"p_worker": "worker-1", "p_version": "1", "p_stripe_account": "acct_us", "p_livemode": False}
    call(rolled_back_db, "register_runner", **values)
    return rolled_back_db


def test_every_version_of_an_event_ends_right(db: Database) -> None:
    for name, case in CASES.items():
        with db.transaction(force_rollback=True):
            record_transfer(db, 1, p_order_id="order-1", p_amount=90, p_source_charge=case.charge, p_charge_amount=100)
            call(db, "note_charge", p_charge_id=case.charge, p_payment_intent="pi_1")
            for each in case.before:
                assert ingest(db, each)["result"] == "acted", name
            came = ingest(db, case.event)
            assert (name, came["result"]) == (name, case.result), came["detail"]
            assert case.says in came["detail"], (name, came["detail"])
            assert (name, asked(db).get("key-1", 0)) == (name, case.asked)
            assert ingest(db, case.event)["result"] == ("kept" if case.result == "kept" else "already_known")
            if case.result == "kept":
                assert kept(db, came["event_id"])["next_step"], name


def test_a_thin_event_is_refused_in_words(db: Database) -> None:
    thin = {
        "id": "evt_test_1",
        "object": "v2.core.event",
        "type": "v1.charge.dispute.funds_withdrawn",
        "created": "2026-08-22T15:26:17.258Z",
        "livemode": False,
        "related_object": {"id": "dp_1", "type": "dispute", "url": "/v1/disputes/dp_1"},
    }
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        call(db, "ingest_stripe_event", p_event=Jsonb(thin))
    assert refused.value.sqlstate == "22023"
    assert "snapshot payloads" in (refused.value.diag.message_hint or "")
    with pytest.raises(NotAnEvent, match="snapshot payloads"):
        parse_event(json.dumps(thin).encode())
