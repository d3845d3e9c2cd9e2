"""Stripe's lists as a comparison hands them over, put together by hand, and what the comparison finds."""

import time
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, value
from tests.support.transfers import Facts, call

Found = tuple[str, int | None, str | None, str | None]

ANOTHER_DATABASE = "00000000-0000-4000-8000-000000000000"


def database_id(db: Database) -> str:
    """Who the database is at Stripe."""
    return str(value(db, "select database_id from marketplace.stripe_control"))


def seconds_ago(seconds: int) -> int:
    """A time as Stripe writes it."""
    return int(time.time()) - seconds


def sent_mark(db: Database, n: int = 1, *, made_for: str = "", database: str | None = None) -> dict[str, str]:
    """The metadata of what is sent for transfer number `n`, or made for a withdrawn request of it."""
    who, key = database or database_id(db), f"key-{n}"
    again = f"transfer:again:{who}:{len(key)}:{key}:{made_for}"
    return {
        "seller_transfers_identity": again if made_for else f"transfer:{who}:{key}",
        "seller_transfers_generation": "1",
        "transfer_key": key,
        "order_id": f"order-{n}",
    }


def reversal_mark(
    db: Database, n: int = 1, *, request: str | None = None, part: int = 1, database: str | None = None
) -> dict[str, str]:
    """The metadata of what takes back tr_n for re_n, or for another request."""
    request = request or f"re_{n}"
    return {
        "seller_transfers_identity": f"reversal:{database or database_id(db)}:tr_{n}:{request}:{part}",
        "seller_transfers_generation": "1",
        "transfer_key": f"key-{n}",
        "order_id": f"order-{n}",
        "reversal_request_id": request,
    }


def listed_transfer(n: int = 1, **changes: Any) -> Facts:
    """Transfer tr_n of 1000 usd to acct_n, made an hour ago, without any mark, as Stripe lists it."""
    return {
        "id": f"tr_{n}",
        "object": "transfer",
        "amount": 1000,
        "currency": "usd",
        "destination": f"acct_{n}",
        "source_transaction": None,
        "metadata": {},
        "amount_reversed": 0,
        "created": seconds_ago(3600),
        **changes,
    }


def listed_reversal(n: int = 1, reversal: str | None = None, **changes: Any) -> Facts:
    """Reversal trr_n of all of tr_n, made an hour ago, without any mark."""
    return {
        "id": reversal or f"trr_{n}",
        "object": "transfer_reversal",
        "amount": 1000,
        "currency": "usd",
        "transfer": f"tr_{n}",
        "status": None,
        "metadata": {},
        "created": seconds_ago(3600),
        **changes,
    }


def begin(db: Database, **arguments: Any) -> int:
    """Begin a run over everything."""
    (run,) = call(db, "start_reconcile", **{"p_stripe_account": "acct_platform", "p_livemode": False, **arguments})
    return int(run["id"])


def hand_over(db: Database, run: int, *objects: Facts) -> None:
    """Give the run what Stripe listed."""
    call(db, "keep_listed_objects", p_run_id=run, p_objects=Jsonb(list(objects)))


def finish(db: Database, run: int) -> list[DictRow]:
    """End the run; what it found."""
    call(db, "finish_reconcile", p_run_id=run)
    return call(db, "reconcile_differences", p_run_id=run)


def compared(db: Database, *objects: Facts) -> list[DictRow]:
    """What a run finds to which Stripe lists these objects."""
    run = begin(db)
    hand_over(db, run, *objects)
    return finish(db, run)


def found(differences: list[DictRow]) -> list[Found]:
    """Kind, row, transfer and reversal of each difference."""
    for each in differences:
        assert each["why"]
        assert each["next_step"]
    return [
        (each["kind"], each["transfer_id"], each["stripe_transfer_id"], each["stripe_reversal_id"])
        for each in differences
    ]
