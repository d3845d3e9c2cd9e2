"""What withdrawn requests leave behind, in short."""

from typing import Any

from psycopg.rows import DictRow

from tests.support.databases import Database, rows, value
from tests.support.transfers import (
    call,
    claim_send_again,
    create_transfer,
    record_one,
    request_parts,
    request_reversal,
    sent,
    transfer,
    transfers_found,
)

Chapter = tuple[int, str, str | None]


def withdraw(db: Database, n: int = 1, *, request: str | None = None, **changes: Any) -> list[DictRow]:
    """Refund re_n failed: its rows and what was made for them."""
    said = {"p_reversal_request_id": request or f"re_{n}", "p_reason": "the refund failed", **changes}
    return call(db, "withdraw_reversal_request", **said)


def follow_up(db: Database, transfer_id: int) -> None:
    """What follows an outcome that was applied to a row of a withdrawn request; nothing, if it followed already."""
    value(db, "select marketplace._settle_withdrawn(%(id)s, clock_timestamp())::text", id=transfer_id)


def sent_beside(db: Database) -> DictRow:
    """What re_1 kept from being paid: 400, sent beside the 600 as tr_beside, and on its way back for re_2."""
    row = create_transfer(db)
    request_parts(db, {"key-1": 400})
    withdraw(db)
    record_one(db, sent(claim_send_again(db, row["id"])))
    beside = born_of(db, "successor_of")
    record_one(db, transfers_found(claim_send_again(db, beside)))
    record_one(db, sent(claim_send_again(db, beside), "tr_beside"))
    request_reversal(db, p_reversal_request_id="re_2")
    return transfer(db, beside)


def story(db: Database, order: str = "order-1") -> list[Chapter]:
    """Amount, status and descent of an order's rows, which are numbered from 1 in the order of their birth."""
    found = rows(db, "select * from marketplace.seller_transfers where order_id = %(order)s order by id", order=order)
    number = {each["id"]: n for n, each in enumerate(found, 1)}
    chapters: list[Chapter] = []
    for each in found:
        descent = None
        if each["successor_of"]:
            descent = f"succeeds {number[each['successor_of']]}"
        elif each["compensates"]:
            descent = f"compensates {number[each['compensates']]}"
        chapters.append((each["amount"], each["status"], descent))
    return chapters


def born_of(db: Database, descent: str) -> int:
    """The id of the one row that has this kind of descent."""
    born = f"select id from marketplace.seller_transfers where {descent} is not null"
    return int(value(db, born))
