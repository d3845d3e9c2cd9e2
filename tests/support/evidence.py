"""What Stripe's events show of transfers: made, reversed in part, by us or by somebody else."""

from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, value

Shown = dict[str, Any]


def send_identity(db: Database, key: str, made_for: str | None = None) -> str:
    """What a send is known by at Stripe, put together by hand."""
    database_id = value(db, "select database_id from marketplace.stripe_control")
    if made_for is None:
        return f"transfer:{database_id}:{key}"
    return f"transfer:again:{database_id}:{len(key)}:{key}:{made_for}"


def shown(of: DictRow, stripe_id: str, identity: str | None, key: str = "key-1", **changes: Any) -> Shown:
    """A transfer as an event has it."""
    return {
        "id": stripe_id,
        "object": "transfer",
        "amount": of["amount"],
        "amount_reversed": 0,
        "currency": of["currency"],
        "destination": of["destination_account"],
        "metadata": {} if identity is None else {"seller_transfers_identity": identity, "transfer_key": key},
        "reversals": {"object": "list", "data": []},
        **changes,
    }


def shown_reversed(of: DictRow, amount_reversed: int, *listed: Shown, amount: int = 1000, **changes: Any) -> Shown:
    """A transfer of which this much is reversed; `listed` are the newest of its reversals."""
    reversals = {"object": "list", "data": list(listed)}
    what = {"amount": amount, "amount_reversed": amount_reversed, "reversals": reversals, **changes}
    return shown(of, of["stripe_transfer_id"], None, **what)


def tell(db: Database, event: str, told: Shown) -> str:
    """What the event came to, in words."""
    return str(value(db, f"select marketplace._note_transfer_{event}(%(told)s)", told=Jsonb(told)))
