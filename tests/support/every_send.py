"""Every kind of answer to a send, its order refunded meanwhile, in part, or not; and what must become of each.

As every_answer.py, by hand: for a Stripe that answers so to the first request that gets there, whether its sender lives
to be told or not, and for an order that is refunded after it was sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from runner.sandbox.simulator import LedgerEntry, SimulatorClient
from tests.support.databases import Database, rows
from tests.support.every_answer import ALL, ANSWERS, Share
from tests.support.orders import order_payouts, refund
from tests.support.transfers import call, family

AMOUNT = 1000
PART = 300
# The first request moves the money, or it does not; with what is put off, or is a person's in the end, no refund is
# waited for: nobody could say how that must end.
_MOVED = ("success", "storedaftercommit", "droppedafter", "truncated")
_NOT_MOVED = (
    "balancelow",
    "refusedonce",
    "refusedalways",
    "paymentrequired",
    "forbidden",
    "keyinuse",
    "servererror",
    "storederror",
    "droppedbefore",
)
_NOT_REFUNDED = ("ratelimit", "locktimeout", "late", "strange", "otherparameters")
# What befalls the order while the request is under way.
_STORIES = {
    "plain": (*_MOVED, *_NOT_MOVED, *_NOT_REFUNDED),
    "refunded": (*_MOVED, *_NOT_MOVED),
    "inpart": (*_MOVED, *_NOT_MOVED),
}


@dataclass(frozen=True, slots=True)
class End:
    """How a send ends: status, amount and reason of each row, the transfers at Stripe, what is back of them."""

    rows: tuple[tuple[str, int, str | None], ...]
    sent: tuple[int, ...] = ()
    back: int = 0
    names_another: bool = False
    """Whether a row says that it was paid by a transfer that is not there."""


_REST = AMOUNT - PART
_UNPAID = "refunded_before_transfer"
_PAID = End((("completed", AMOUNT, None),), (AMOUNT,))
_PLAIN = {
    "refusedalways": End((("permanently_failed", AMOUNT, "given_up"),)),
    "strange": End((("pending", AMOUNT, "mismatch"),)),
    "otherparameters": End((("pending", AMOUNT, "conflict"),)),
}
_PAID_AND_BACK = End((("reversed", AMOUNT, None),), (AMOUNT,), AMOUNT)
_NEVER_PAID = End((("permanently_failed", AMOUNT, _UNPAID),))
_PAID_AND_PART_BACK = End((("completed", _REST, None), ("reversed", PART, None)), (AMOUNT,), PART)
_REST_PAID = End((("completed", _REST, None), ("permanently_failed", PART, _UNPAID)), (_REST,))
_REST_REFUSED = End((("permanently_failed", _REST, "given_up"), ("permanently_failed", PART, _UNPAID)))


@dataclass(frozen=True, slots=True)
class Send:
    """One transfer that is to be sent."""

    name: str
    answer: str
    story: str

    def end(self, *, was_sent: bool) -> End:
        """What must become of it; `was_sent`: the first request got to Stripe before the refund."""
        has_moved = was_sent and self.answer in _MOVED
        if self.story == "plain":
            return _PLAIN.get(self.answer, _PAID)
        if self.story == "refunded":
            return _PAID_AND_BACK if has_moved else _NEVER_PAID
        if has_moved:
            return _PAID_AND_PART_BACK
        return _REST_REFUSED if self.answer == "refusedalways" else _REST_PAID


def every_send(prefix: str, share: Share = ALL) -> list[Send]:
    """One for each answer in each story."""
    return [
        Send(f"{prefix}{answer}{story}", answer, story)
        for s, (story, answers) in enumerate(_STORIES.items())
        for a, answer in enumerate(answers)
        if share.has(s, a)
    ]


def add_answers_to_sends(stripe: SimulatorClient, sends: Sequence[Send]) -> None:
    """Script what goes wrong."""
    rules: list[dict[str, Any]] = []
    for each in sends:
        fault, _ = ANSWERS[each.answer]
        if fault is not None:
            match = {"method": "POST", "path": "^/v1/transfers$", "destination": f"acct_{each.name}"}
            body = {"body": _strange(each)} if fault["action"] == "garbage" else {}
            rules.append({**fault, **body, "match": match})
    stripe.add_faults(rules)


def hold_sends(stripe: SimulatorClient, sends: Sequence[Send], prefix: str, when: str) -> None:
    """Have the first request of each stand at Stripe before it goes wrong: `<prefix> sends`, or `<prefix> refunded`."""
    names = {"plain": "sends", "refunded": "refunded", "inpart": "refunded"}
    for name in ("sends", "refunded"):
        held = [each for each in sends if names[each.story] == name]
        stories = "|".join(sorted({each.story for each in held}))
        stripe.add_fault(
            "hold",
            name=f"{prefix} {name}",
            when=when,
            go_on=True,
            times=len(held),
            match={"method": "POST", "idempotency_key": f":key-{prefix}[a-z0-9]+({stories}):1$"},
        )


def _strange(send: Send) -> str:
    """A transfer to this seller, but of more than was to be sent."""
    return (
        f'{{"id": "tr_{send.name}", "object": "transfer", "amount": {AMOUNT + 1}, "currency": "usd",'
        f' "destination": "acct_{send.name}", "amount_reversed": 0, "metadata": {{}}}}'
    )


def create_sends(db: Database, stripe: SimulatorClient, sends: Sequence[Send]) -> None:
    """Create them all in one transaction; the platform has the money, and would have it for a second time."""
    stripe.fund(2 * AMOUNT * len(sends), "usd")
    order_payouts(db, stripe, *(each.name for each in sends), amount=AMOUNT)


def refund_sends(db: Database, sends: Sequence[Send]) -> None:
    """Refund those that are to be refunded, in whole or in part."""
    refund(db, *(each.name for each in sends if each.story == "refunded"))
    for each in sends:
        if each.story == "inpart":
            part = Jsonb([{"transfer_key": f"key-{each.name}", "amount": PART}])
            request = {"p_order_id": f"order-{each.name}", "p_reversal_request_id": f"re_{each.name}"}
            call(db, "request_reversal", **request, p_allocation=part)


def deviations_of_sends(
    db: Database, ledger: Sequence[LedgerEntry], sends: Sequence[Send], *, was_sent: bool
) -> list[str]:
    """Compare what was to be sent with Stripe's ledger and the rows; gives a line for all that must not be."""
    found = [(each, each.end(was_sent=was_sent), _end_of(db, ledger, each)) for each in sends]
    lines = [f"{each.name} ended as {what}, not as {must}" for each, must, what in found if what != must]
    unlike = rows(
        db,
        """
        select l.transfer_key, l.asked, l.met, l.unmet from marketplace.reversal_request_lines as l
        inner join marketplace.seller_transfers as t on t.id = l.transfer_id
        where t.transfer_key = any (%(keys)s) and l.unmet <> 0
        """,
        keys=[f"key-{each.name}" for each in sends],
    )
    return lines + [f"{each['transfer_key']} is asked for: {each['met']} of {each['asked']} met" for each in unlike]


def _end_of(db: Database, ledger: Sequence[LedgerEntry], send: Send) -> End:
    (root,) = rows(
        db, "select * from marketplace.seller_transfers where transfer_key = %(key)s", key=f"key-{send.name}"
    )
    made = [entry for entry in ledger if entry.kind == "transfer" and entry.destination == f"acct_{send.name}"]
    standing = {entry.transfer for entry in made}
    members = family(db, root["id"])
    return End(
        rows=tuple((each["status"], each["amount"], _why(each)) for each in members),
        sent=tuple(entry.moved for entry in made),
        back=sum(entry.moved for entry in ledger if entry.kind == "reversal" and entry.transfer in standing),
        names_another=not standing.issuperset(
            each["stripe_transfer_id"] for each in members if each["completed_at"] is not None
        ),
    )


def _why(row: dict[str, Any]) -> str | None:
    if row["parked_reason"]:
        return str(row["parked_reason"]).partition(":")[0]
    return None if row["failure_code"] is None else str(row["failure_code"])
