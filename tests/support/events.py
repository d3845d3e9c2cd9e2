"""Stripe's events, in the shape in which they come, and what the database made of them."""

import itertools
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, row, rows, value
from tests.support.transfers import call

Event = dict[str, Any]

_numbers = itertools.count(1)


def event(type: str, object: Event, **changes: Any) -> Event:
    """An event of the platform's own, in test mode, with an id of its own."""
    return {
        "id": f"evt_{next(_numbers):08}",
        "object": "event",
        "api_version": None,
        "created": 1234567890,
        "data": {"object": object},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
        **changes,
    }


def refund(refund_id: str = "re_1", amount: int = 50, status: str | None = "succeeded", **changes: Any) -> Event:
    """A refund of charge ch_1; re_n was made n seconds after the charge."""
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": "ch_1",
        "created": 1234567890 + int(refund_id.rpartition("_")[2]),
        "currency": "usd",
        "metadata": {},
        "payment_intent": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
        **changes,
    }


def charge(charge_id: str = "ch_1", amount: int = 100, **changes: Any) -> Event:
    """A charge of 100, captured."""
    return {
        "id": charge_id,
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "captured": True,
        "created": 1234567890,
        "currency": "usd",
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": None,
        "refunded": False,
        "status": "succeeded",
        "transfer_group": None,
        **changes,
    }


def dispute(dispute_id: str = "dp_1", amount: int = 100, status: str = "needs_response", **changes: Any) -> Event:
    """A dispute of charge ch_1."""
    return {
        "id": dispute_id,
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": "ch_1",
        "created": 1234567890,
        "currency": "usd",
        "evidence_details": {"due_by": 1723679999, "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": True,
        "livemode": False,
        "metadata": {},
        "payment_intent": None,
        "reason": "general",
        "status": status,
        **changes,
    }


def moved(*amounts: int, currency: str = "usd") -> list[Event]:
    """A dispute's balance transactions: what Stripe withdrew (less than 0) and reinstated."""
    return [
        {
            "id": f"txn_{n}",
            "object": "balance_transaction",
            "amount": amount,
            "currency": currency,
            "fee": 0 if amount > 0 else 1500,
            "net": amount if amount > 0 else amount - 1500,
            "reporting_category": "dispute_reversal" if amount > 0 else "dispute",
            "type": "adjustment",
        }
        for n, amount in enumerate(amounts, start=1)
    ]


def stripe_transfer(transfer_id: str = "tr_1", amount: int = 90, **changes: Any) -> Event:
    """A transfer of ours at Stripe."""
    return {
        "id": transfer_id,
        "object": "transfer",
        "amount": amount,
        "amount_reversed": 0,
        "created": 1234567890,
        "currency": "usd",
        "destination": "acct_1",
        "livemode": False,
        "metadata": {},
        "reversed": False,
        "source_transaction": "ch_1",
        "transfer_group": None,
        **changes,
    }


def ingest(db: Database, given: Event, **changes: Any) -> DictRow:
    """What becomes of an event."""
    (became,) = call(db, "ingest_stripe_event", p_event=Jsonb(given), **changes)
    assert (became["event_id"], became["type"]) == (given["id"], given["type"])
    return became


def result(db: Database, given: Event) -> str:
    """What becomes of an event, in a word."""
    return str(ingest(db, given)["result"])


def refunded(db: Database, refund_id: str = "re_1", amount: int = 50, **changes: Any) -> DictRow:
    """Stripe tells that a refund succeeded."""
    return ingest(db, event("refund.updated", refund(refund_id, amount, **changes)))


def failed(db: Database, refund_id: str = "re_1", amount: int = 50, **changes: Any) -> DictRow:
    """Stripe tells that a refund failed."""
    return ingest(db, event("refund.failed", refund(refund_id, amount, "failed", **changes)))


def kept(db: Database, event_id: str) -> DictRow:
    """A kept event, as a person sees it."""
    return row(db, "select * from marketplace.kept_events where event_id = %(id)s", id=event_id)


def states(db: Database) -> dict[str, str]:
    """What became of every event by now."""
    return {
        each["event_id"]: each["state"] for each in rows(db, "select event_id, state from marketplace.stripe_events")
    }


def by_events(db: Database) -> None:
    """Events ask for refunds."""
    call(db, "set_refunds_by", p_who="events", p_reason="test")


def asked(db: Database) -> dict[str, int]:
    """What is asked of each transfer, by requests that stand."""
    found = rows(
        db,
        """
        select l.transfer_key, sum(l.asked)::bigint as asked
        from marketplace.reversal_request_lines as l
        inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
        where r.withdrawn_at is null group by l.transfer_key
        """,
    )
    return {each["transfer_key"]: each["asked"] for each in found}


def asked_for(db: Database, request: str) -> dict[str, tuple[int, int, int]]:
    """What a request asked of each transfer: asked, met, unmet."""
    found = rows(
        db, "select * from marketplace.reversal_request_lines where reversal_request_id = %(request)s", request=request
    )
    return {each["transfer_key"]: (each["asked"], each["met"], each["unmet"]) for each in found}


def requests(db: Database) -> list[str]:
    """The requests that stand, the first one first."""
    found = rows(
        db,
        "select reversal_request_id from marketplace.reversal_requests where withdrawn_at is null"
        " order by requested_at, reversal_request_id",
    )
    return [each["reversal_request_id"] for each in found]


def is_withdrawn(db: Database, request: str) -> bool:
    """Whether a request is known to be withdrawn, heard of or not."""
    query = "select exists (select from marketplace.reversal_requests where reversal_request_id = %(request)s"
    return bool(value(db, f"{query} and withdrawn_at is not null)", request=request))
