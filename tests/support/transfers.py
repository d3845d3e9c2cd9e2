"""Transfers to test with, in the state a test needs, made by the functions that an app and a runner call."""

from datetime import datetime
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, row, rows

Facts = dict[str, Any]

# What an outcome is made of: every key a runner reports, in the order of the contract.
_ABSENT: Facts = dict.fromkeys(
    (
        "http_status",
        "error_type",
        "error_code",
        "error_message",
        "stripe_request_id",
        "replayed",
        "duration_ms",
        "object",
        "found",
    )
)


def call(db: Database, function: str, **arguments: Any) -> list[DictRow]:
    """The rows of a function of the schema, called by named arguments."""
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    return rows(db, f"select * from marketplace.{function}({named})", **arguments)


def transfer_values(n: int = 1, **changes: Any) -> dict[str, Any]:
    """Arguments of create_transfer for transfer number `n`: key-n of order-n, 1000 usd for seller-n at acct_n."""
    return {
        "p_transfer_key": f"key-{n}",
        "p_order_id": f"order-{n}",
        "p_seller_id": f"seller-{n}",
        "p_destination_account": f"acct_{n}",
        "p_amount": 1000,
        "p_currency": "usd",
        **changes,
    }


def create_transfer(db: Database, n: int = 1, **changes: Any) -> DictRow:
    """Transfer number `n`, to be made."""
    (made,) = call(db, "create_transfer", **transfer_values(n, **changes))
    return made


def record_transfer(db: Database, n: int = 1, **changes: Any) -> DictRow:
    """Transfer number `n`, made already as tr_n."""
    (made,) = call(
        db, "record_completed_transfer", **transfer_values(n, **{"p_stripe_transfer_id": f"tr_{n}", **changes})
    )
    return made


def request_reversal(db: Database, n: int = 1, **changes: Any) -> list[DictRow]:
    """Refund re_n of order-n."""
    return call(db, "request_reversal", **{"p_order_id": f"order-{n}", "p_reversal_request_id": f"re_{n}", **changes})


def refunded_transfer(db: Database, n: int = 1, **changes: Any) -> DictRow:
    """Transfer number `n`, waiting to be taken back for re_n."""
    record_transfer(db, n, **changes)
    (refunded,) = request_reversal(db, n)
    return refunded


def refunded_transfers(db: Database, count: int) -> list[int]:
    """Ids of transfers 1 to `count`, waiting to be taken back; due in this order."""
    return [
        found["id"]
        for found in rows(
            db,
            """
            select r.id from generate_series(1, %(count)s) as n
            cross join lateral marketplace.record_completed_transfer(
              'key-' || n, 'order-' || n, 'seller-' || n, 'acct_' || n, 1000, 'usd',
              p_stripe_transfer_id => 'tr_' || n) as t
            cross join lateral marketplace.request_reversal(t.order_id, 're_' || n) as r
            """,
            count=count,
        )
    ]


def claim(db: Database, limit: int = 10, worker: str = "worker-1", lease: str = "60 s") -> list[DictRow]:
    """The calls a worker gets when it asks for up to `limit`."""
    return call(db, "claim_due_reversals", p_worker=worker, p_limit=limit, p_lease=lease)


def claimed_call(db: Database, n: int = 1, **changes: Any) -> DictRow:
    """The call for transfer number `n`, refunded and just claimed; no other row may be due."""
    refunded_transfer(db, n, **changes)
    (leased,) = claim(db)
    return leased


def claim_again(db: Database, transfer_id: int) -> DictRow:
    """The next call for this row: its time is made to have come; no other row may be due."""
    make_due(db, transfer_id)
    (leased,) = claim(db)
    return leased


def make_due(db: Database, transfer_id: int) -> None:
    """As if the row's waiting time were over."""
    db.execute(
        "update marketplace.seller_transfers set next_retry_at = clock_timestamp() - interval '1 s' where id = %s",
        [transfer_id],
    )


def lapse_lease(db: Database, transfer_id: int) -> None:
    """As if the row's worker had been silent for longer than its lease."""
    db.execute(
        """
        update marketplace.seller_transfers
        set leased_at = leased_at - interval '1 h', lease_expires_at = clock_timestamp() - interval '1 s'
        where id = %s
        """,
        [transfer_id],
    )


def report(leased: DictRow, **facts: Any) -> Facts:
    """The outcome of a claimed call in the shape a runner reports it; facts not named are null."""
    frame = {"id": leased["id"], "action": leased["action"], "lease_token": str(leased["lease_token"])}
    return {**frame, "sent": True, **_ABSENT, **facts}


def reversal_object(leased: DictRow, reversal: str | None = None, **changes: Any) -> Facts:
    """Stripe's transfer_reversal as the call asks for it; trr_n for tr_n unless named."""
    return {
        "id": reversal or leased["stripe_transfer_id"].replace("tr_", "trr_"),
        "object": "transfer_reversal",
        "amount": leased["amount"],
        "currency": leased["currency"],
        "transfer": leased["stripe_transfer_id"],
        "status": None,
        "metadata": leased["metadata"],
        **changes,
    }


def success(leased: DictRow, reversal: str | None = None, **changes: Any) -> Facts:
    """Stripe reversed it."""
    return report(
        leased, http_status=200, object=reversal_object(leased, reversal, **changes), stripe_request_id="req_1"
    )


def refusal(leased: DictRow, status: int = 400, code: str | None = None, message: str = "No.", **facts: Any) -> Facts:
    """Stripe refused it, with an error body."""
    said = {"error_type": "invalid_request_error", "error_code": code, "error_message": message}
    return report(leased, http_status=status, **{**said, **facts})


def timeout(leased: DictRow) -> Facts:
    """No answer came."""
    return report(leased, error_message="no answer within 20 s")


def record(db: Database, *outcomes: Facts) -> list[DictRow]:
    """What becomes of these outcomes, reported together."""
    return call(db, "record_reversal_outcomes", p_outcomes=Jsonb(list(outcomes)))


def record_one(db: Database, outcome: Facts) -> DictRow:
    """What becomes of one outcome, reported alone."""
    (recorded,) = record(db, outcome)
    return recorded


def transfer(db: Database, transfer_id: int) -> DictRow:
    """The row as it stands."""
    return row(db, "select * from marketplace.seller_transfers where id = %(id)s", id=transfer_id)


NO_LEASE: Facts = dict.fromkeys(("lease_token", "leased_at", "lease_expires_at", "leased_by", "lease_action"))


def effect(db: Database, outcome: Facts) -> tuple[DictRow, Facts, datetime]:
    """Report it, and see it applied: the row before, the columns it changed beside the lease it gave back, and when."""
    before = transfer(db, outcome["id"])
    recorded = record_one(db, outcome)
    after = transfer(db, outcome["id"])
    assert recorded["result"] == "applied"
    assert (recorded["status"], recorded["next_retry_at"]) == (after["status"], after["next_retry_at"])
    assert {name: after[name] for name in NO_LEASE} == NO_LEASE
    changed = {name: after[name] for name in after if after[name] != before[name] and name != "updated_at"}
    applied_at = attempts(db, outcome["id"])[-1]["finished_at"]
    return before, {name: text for name, text in changed.items() if name not in NO_LEASE}, applied_at


def attempts(db: Database, transfer_id: int) -> list[DictRow]:
    """What was tried for the row, oldest first."""
    return rows(
        db, "select * from marketplace.transfer_attempts where transfer_id = %(id)s order by id", id=transfer_id
    )


def status_log(db: Database, transfer_id: int) -> list[DictRow]:
    """The row's history, oldest first."""
    return rows(
        db, "select * from marketplace.transfer_status_log where transfer_id = %(id)s order by id", id=transfer_id
    )


def request_lines(db: Database, request: str = "re_1") -> list[tuple[str, int, int, int]]:
    """What a request asked of each transfer: transfer_key, asked, met, unmet."""
    found = rows(
        db,
        "select * from marketplace.reversal_request_lines where reversal_request_id = %(request)s order by transfer_id",
        request=request,
    )
    return [(line["transfer_key"], line["asked"], line["met"], line["unmet"]) for line in found]


def contents(db: Database) -> dict[str, str | None]:
    """A checksum of every table of the schema: equal if and only if nothing changed."""
    tables = [
        each["tablename"]
        for each in rows(db, "select tablename from pg_tables where schemaname = 'marketplace' order by tablename")
    ]
    checksum = "select md5(string_agg(t::text, chr(10) order by t::text)) as checksum from marketplace."
    return {table: row(db, f"{checksum}{table} as t")["checksum"] for table in tables}


def without_jitter(db: Database) -> None:
    """Delays to the second."""
    db.execute("update marketplace.retry_policy set jitter = 0")
