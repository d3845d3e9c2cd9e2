"""Look-ups as a runner reports them: the transfer, and all reversals of it at Stripe."""

from typing import Any

from psycopg.rows import DictRow

from tests.support.databases import Database, row
from tests.support.transfers import Facts, claim_again, claimed_call, look_up_report, record_one, timeout

Listed = dict[str, Any]


def identity_of(db: Database, transfer_id: int) -> str:
    """What the row's reversal is known by at Stripe, put together by hand."""
    found = row(
        db,
        """
        select concat_ws(
          ':', 'reversal', c.database_id, t.stripe_transfer_id, t.reversal_request_id, t.call_part) as text
        from marketplace.seller_transfers as t cross join marketplace.stripe_control as c where t.id = %(id)s
        """,
        id=transfer_id,
    )
    return str(found["text"])


def ours(db: Database, looked: DictRow, reversal: str = "trr_1", *, generation: int = 1, **changes: Any) -> Listed:
    """A reversal that an earlier call for this row made."""
    metadata = {
        "seller_transfers_identity": identity_of(db, looked["id"]),
        "seller_transfers_generation": str(generation),
    }
    return {**foreign(looked, reversal, looked["amount"]), "metadata": metadata, **changes}


def foreign(looked: DictRow, reversal: str, amount: int, **changes: Any) -> Listed:
    """A reversal that somebody else made of the same transfer."""
    return {
        "id": reversal,
        "object": "transfer_reversal",
        "amount": amount,
        "currency": looked["currency"],
        "transfer": looked["stripe_transfer_id"],
        "status": None,
        "metadata": {},
        **changes,
    }


def seen(looked: DictRow, *listed: Listed, amount: int = 1000, **changes: Any) -> Facts:
    """A complete look-up at a transfer of this amount; what is listed sums to what Stripe says is reversed."""
    return look_up_report(looked, *listed, amount=amount, **changes)


def claimed_look_up(db: Database, n: int = 1) -> DictRow:
    """The look-up for transfer number `n` after the outcome of its first call stayed unknown."""
    leased = claimed_call(db, n)
    record_one(db, timeout(leased))
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    return looked


def pass_time(db: Database, transfer_id: int, interval: str) -> None:
    """As if all that happened to the row had happened this much earlier; its lease, if any, stays live."""
    db.execute(
        """
        update marketplace.seller_transfers
        set
          next_retry_at = next_retry_at - %(by)s::interval,
          call_minted_at = call_minted_at - %(by)s::interval,
          call_last_sent_at = call_last_sent_at - %(by)s::interval,
          call_absent_at = call_absent_at - %(by)s::interval,
          streak_since = streak_since - %(by)s::interval,
          waiting_since = waiting_since - %(by)s::interval
        where id = %(id)s
        """,
        {"by": interval, "id": transfer_id},
    )
