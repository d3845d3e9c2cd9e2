"""Rows of seller_transfers written by raw SQL, by legal paths, as the owner may: for tests of the table's own guards.

None of the functions that other tests pin is used, so that a guard is shown to hold by itself.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.support.databases import Database

STATUSES = ("pending", "completed", "failed", "reversal_pending", "reversed", "permanently_failed")

PATHS = {
    "pending": ("pending",),
    "completed": ("completed",),
    "failed": ("pending", "failed"),
    "reversal_pending": ("completed", "reversal_pending"),
    "reversed": ("completed", "reversal_pending", "reversed"),
    "permanently_failed": ("pending", "failed", "permanently_failed"),
}

REQUEST = "re_raw"

_OBLIGATION = """
  next_retry_at = coalesce(next_retry_at, clock_timestamp()),
  call_generation = coalesce(call_generation, 1),
  call_minted_at = coalesce(call_minted_at, clock_timestamp())"""

_UNPAID = """
  completed_at = null, stripe_transfer_id = null, stripe_reversal_id = null, reversal_request_id = null,"""

_PAID = """
  completed_at = coalesce(completed_at, clock_timestamp()),
  stripe_transfer_id = coalesce(stripe_transfer_id, 'tr_' || id),"""

_ASKED_BACK = f"""
  reversal_request_id = coalesce(reversal_request_id, '{REQUEST}'),"""

# What the CHECKs ask of each status, whatever the row was before; what it has already stays.
ENTERING = {
    "pending": _UNPAID + _OBLIGATION,
    "failed": _UNPAID + _OBLIGATION,
    "completed": _PAID + "stripe_reversal_id = null, reversal_request_id = null, next_retry_at = null",
    "reversal_pending": _PAID + _ASKED_BACK + "call_part = 1," + _OBLIGATION,
    "reversed": _PAID
    + _ASKED_BACK
    + "next_retry_at = null, stripe_reversal_id = coalesce(stripe_reversal_id, 'trr_' || id)",
    "permanently_failed": "next_retry_at = null, failure_code = 'given_up', failure_message = 'Given up.'",
}


BIRTHS: dict[str, dict[str, Any]] = {
    "pending": {"status": "pending", "next_retry_at": "now", "call_generation": 1, "call_minted_at": "now"},
    "completed": {"status": "completed", "completed_at": "now"},
}


def add_transfer(db: Database, status: str, **columns: Any) -> int:
    """Write a transfer that came to `status` by a legal path; `columns` are set at its birth. Returns its id."""
    db.execute(
        "insert into marketplace.reversal_requests (reversal_request_id, order_id, reason)"
        " values (%s, 'order-1', 'refund') on conflict do nothing",
        (REQUEST,),
    )
    born, *later = PATHS[status]
    transfer_id = insert_transfer(db, **BIRTHS[born], **columns)
    if born == "completed":
        update_transfer(db, transfer_id, "stripe_transfer_id = coalesce(stripe_transfer_id, 'tr_' || id)")
    for entered in later:
        enter(db, transfer_id, entered)
    return transfer_id


def insert_transfer(db: Database, **columns: Any) -> int:
    """Insert a row of these columns, who and how much filled in where they are silent. Returns its id."""
    written = {
        "transfer_key": None if "root_id" in columns else f"key-{uuid4()}",
        "order_id": "order-1",
        "seller_id": "seller-1",
        "destination_account": "acct_1",
        "original_amount": 1000,
        "amount": 1000,
        "currency": "usd",
        **columns,
    }
    statement = sql.SQL("insert into marketplace.seller_transfers ({}) values ({}) returning id").format(
        sql.SQL(", ").join(map(sql.Identifier, written)), sql.SQL(", ").join(map(sql.Placeholder, written))
    )
    inserted = db.execute(statement, written).fetchone()
    assert inserted is not None
    transfer_id: int = inserted["id"]
    return transfer_id


def update_transfer(db: Database, transfer_id: int, assignments: str) -> None:
    """Run a raw UPDATE of the row with this SET list."""
    run(db, f"update marketplace.seller_transfers set {assignments} where id = {transfer_id}")


def run(db: Database, statement: str) -> None:
    """Run a statement that a test put together."""
    db.execute(statement.encode())


def enter(db: Database, transfer_id: int, status: str) -> None:
    """Run a raw UPDATE to `status` that sets what the CHECKs ask of it, so that only the state machine can refuse."""
    update_transfer(db, transfer_id, f"status = '{status}', {ENTERING[status]}")


def outcome(db: Database, act: Callable[..., object], *arguments: Any, **columns: Any) -> str:
    """Try `act(db, …)`: `passes`, or the SQLSTATE it was refused with. Nothing of it stays."""
    try:
        with db.transaction(force_rollback=True):
            act(db, *arguments, **columns)
    except psycopg.Error as error:
        return error.sqlstate or "no SQLSTATE"
    return "passes"
