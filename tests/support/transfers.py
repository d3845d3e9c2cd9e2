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


def request_parts(db: Database, parts: dict[str, int], request: str = "re_1", **changes: Any) -> list[DictRow]:
    """A refund of these amounts, by transfer_key, of order-1."""
    allocation = [{"transfer_key": key, "amount": amount} for key, amount in parts.items()]
    return request_reversal(db, p_reversal_request_id=request, p_allocation=Jsonb(allocation), **changes)


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


def register(db: Database, worker: str) -> None:
    """Let a worker claim that may not, or not any more; nothing else is touched, as register_runner would."""
    may_claim = "select from marketplace.runners where worker = %(worker)s and ended_at is null"
    if not rows(db, may_claim, worker=worker):
        db.execute(
            """
            insert into marketplace.runners (worker, version, stripe_account, livemode)
            values (%s, 'test', 'acct_platform', false)
            on conflict on constraint pk_runners do update
            set registered_at = clock_timestamp(), ended_at = null, ended_reason = null
            """,
            [worker],
        )


def claim(db: Database, limit: int = 10, worker: str = "worker-1", lease: str = "60 s") -> list[DictRow]:
    """The calls a worker gets when it asks for up to `limit`; it registers if it must."""
    register(db, worker)
    return call(db, "claim_due_reversals", p_worker=worker, p_limit=limit, p_lease=lease)


def claim_sends(db: Database, limit: int = 10, worker: str = "worker-1", lease: str = "60 s") -> list[DictRow]:
    """As `claim`, of transfers that are to be sent."""
    register(db, worker)
    return call(db, "claim_due_transfers", p_worker=worker, p_limit=limit, p_lease=lease)


def claimed_send(db: Database, n: int = 1, **changes: Any) -> DictRow:
    """The call for transfer number `n`, created and just claimed; no other row may be due."""
    create_transfer(db, n, **changes)
    (leased,) = claim_sends(db)
    return leased


def claim_send_again(db: Database, transfer_id: int) -> DictRow:
    """The next call for this unpaid row: its time is made to have come; no other row may be due."""
    make_due(db, transfer_id)
    (leased,) = claim_sends(db)
    return leased


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


def claim_post(db: Database, transfer_id: int) -> DictRow:
    """The next call for this row that moves money; a look-up it is told to make before finds nothing."""
    for _ in range(3):
        leased = claim_again(db, transfer_id)
        if leased["action"] == "reverse":
            return leased
        record_one(db, nothing_found(leased))
    raise AssertionError(f"transfer {transfer_id} is only looked up")


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


def look_up_report(
    leased: DictRow,
    *reversals: Facts,
    amount: int | None = None,
    amount_reversed: int | None = None,
    currency: str | None = None,
    **facts: Any,
) -> Facts:
    """A look-up that read everything: these reversals of a transfer of the call's own amount and currency.

    What is listed live sums to what Stripe says is reversed, unless `amount_reversed` says otherwise.
    """
    live = sum(each["amount"] for each in reversals if each["status"] in (None, "pending", "succeeded"))
    stripe_transfer = {
        "id": leased["stripe_transfer_id"],
        "object": "transfer",
        "amount": leased["amount"] if amount is None else amount,
        "currency": currency or leased["currency"],
        "destination": leased["destination_account"],
        "amount_reversed": live if amount_reversed is None else amount_reversed,
        "metadata": {},
    }
    return report(leased, **{"http_status": 200, "object": stripe_transfer, "found": list(reversals), **facts})


def nothing_found(leased: DictRow) -> Facts:
    """A look-up that read everything, and nobody has reversed anything."""
    return look_up_report(leased)


def found_reversal(of: DictRow, reversal: str | None = None, **changes: Any) -> Facts:
    """A reversal as a look-up lists it, made by `of`: a claimed call, or a row whose reversal was claimed.

    Its metadata is what the database sent; of a claimed look-up, which is told none, what says whose reversal it is.
    """
    if "call_params" in of:
        metadata = of["call_params"]["metadata"]
    elif of["metadata"]:
        metadata = of["metadata"]
    else:
        identity, _, generation = of["idempotency_key"].rpartition(":")
        metadata = {"seller_transfers_identity": identity, "seller_transfers_generation": generation}
    return reversal_object({**of, "metadata": metadata}, reversal, **changes)


def transfer_object(leased: DictRow, transfer_id: str | None = None, **changes: Any) -> Facts:
    """Stripe's transfer as the call asks for it; tr_n for acct_n unless named."""
    metadata = leased["metadata"]
    if metadata is None:  # a look-up is told none
        identity, _, generation = leased["idempotency_key"].rpartition(":")
        metadata = {"seller_transfers_identity": identity, "seller_transfers_generation": generation}
    return {
        "id": transfer_id or leased["destination_account"].replace("acct_", "tr_"),
        "object": "transfer",
        "amount": leased["amount"],
        "currency": leased["currency"],
        "destination": leased["destination_account"],
        "source_transaction": leased["source_charge"],
        "transfer_group": leased["transfer_group"],
        "metadata": metadata,
        "amount_reversed": 0,
        **changes,
    }


def sent(leased: DictRow, transfer_id: str | None = None, **changes: Any) -> Facts:
    """Stripe made the transfer."""
    return report(leased, http_status=200, object=transfer_object(leased, transfer_id, **changes))


def transfers_found(leased: DictRow, *transfers: Facts, **facts: Any) -> Facts:
    """A look-up for a send that read the whole list: these transfers."""
    return report(leased, **{"http_status": 200, "found": list(transfers), **facts})


def record(db: Database, *outcomes: Facts) -> list[DictRow]:
    """What becomes of these outcomes, of one kind of work, reported together."""
    of_sends = any(outcome["action"] in ("send", "look_up_transfer") for outcome in outcomes)
    function = "record_transfer_outcomes" if of_sends else "record_reversal_outcomes"
    return call(db, function, p_outcomes=Jsonb(list(outcomes)))


def record_one(db: Database, outcome: Facts) -> DictRow:
    """What becomes of one outcome, reported alone."""
    (recorded,) = record(db, outcome)
    return recorded


def transfer(db: Database, transfer_id: int) -> DictRow:
    """The row as it stands."""
    return row(db, "select * from marketplace.seller_transfers where id = %(id)s", id=transfer_id)


def family(db: Database, root_id: int) -> list[DictRow]:
    """A root and its slices as they stand, oldest first."""
    return rows(db, "select * from marketplace.seller_transfers where %(id)s in (id, root_id) order by id", id=root_id)


def at_commit(db: Database) -> None:
    """Ask now what the deferred constraints ask at commit."""
    db.execute("set constraints all immediate")
    db.execute("set constraints all deferred")


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
