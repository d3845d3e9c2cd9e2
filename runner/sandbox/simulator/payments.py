"""What buyers pay, and what goes back to them: charges, refunds and disputes.

How money flows: a charge brings money from outside into its purse, the platform's pending balance or the available
one. A refund takes it out again at birth and brings it back if it fails; a dispute when its funds are withdrawn and
reinstated. Neither touches a transfer, as at Stripe.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

from . import errors
from . import payment_shapes as shapes
from .events import Events
from .ledger import OUTSIDE, Cause, Kind, Ledger
from .objects import PENDING, PLATFORM, BalanceTransaction, Charge, Dispute, DisputeStatus, Refund, RefundStatus, new_id
from .wire import Json

_NOBODY = Cause()

# What can become of a refund; one that succeeded can yet fail, days later.
_NEXT: dict[RefundStatus, tuple[RefundStatus, ...]] = {
    "pending": ("requires_action", "succeeded", "failed", "canceled"),
    "requires_action": ("pending", "succeeded", "failed", "canceled"),
    "succeeded": ("failed",),
    "failed": (),
    "canceled": (),
}


class Payments:
    """The charges, refunds and disputes of one mode."""

    def __init__(self, ledger: Ledger, events: Events, *, livemode: bool) -> None:
        self._ledger = ledger
        self._events = events
        self._livemode = livemode
        self.charges: dict[str, Charge] = {}
        self.charge_of_intent: dict[str, Charge] = {}
        self.refunds: dict[str, Refund] = {}
        self.disputes: dict[str, Dispute] = {}
        self._disputes_of: dict[str, list[str]] = {}

    def _now(self) -> int:
        return int(self._ledger.clock.now())

    def add_charge(
        self, amount: int, currency: str, *, transfer_group: str | None, metadata: dict[str, str], available: bool
    ) -> Charge:
        """Add a succeeded charge and its money, which stays pending unless it is `available` at once."""
        purse = PLATFORM if available else PENDING
        charge = Charge(new_id("ch"), self._now(), amount, currency, transfer_group, metadata, purse)
        self.charges[charge.id] = charge
        self.charge_of_intent[charge.payment_intent] = charge
        self._ledger.post(
            "charge",
            livemode=self._livemode,
            debit=OUTSIDE,
            credit=purse,
            amount=amount,
            currency=currency,
            charge=charge.id,
            metadata=metadata,
        )
        self._tell_charge("charge.succeeded", charge, _NOBODY, None)
        return charge

    def refund(
        self,
        charge: Charge,
        amount: int | None,
        *,
        status: RefundStatus = "succeeded",
        reason: str | None = None,
        metadata: dict[str, str],
        cause: Cause = _NOBODY,
    ) -> Refund:
        """Refund `amount`, or all that is left. Raises StripeError as Stripe would refuse."""
        left = charge.amount - charge.amount_refunded
        if left == 0:
            raise errors.charge_already_refunded(charge.id)
        if not all(self.disputes[each].is_charge_refundable for each in self._disputes_of.get(charge.id, ())):
            raise errors.charge_disputed(charge.id)
        amount = left if amount is None else amount
        if amount > left:
            raise errors.more_than_unrefunded(amount, left)
        made = Refund(
            id=new_id("re"),
            seq=len(self.refunds) + 1,
            created=self._now(),
            charge=charge.id,
            payment_intent=charge.payment_intent,
            amount=amount,
            currency=charge.currency,
            status=status,
            reason=reason,
            metadata=metadata,
        )
        before = _refunded(charge)
        charge.amount_refunded += amount
        charge.refunds.append(made)
        self.refunds[made.id] = made
        self._post("refund", charge, -amount, refund=made, cause=cause)
        self._tell_refund("refund.created", made, cause)
        self._tell_charge("charge.refunded", charge, cause, _changed(before, _refunded(charge)))
        return made

    def settle_refund(self, refund_id: str, status: RefundStatus, failure_reason: str | None) -> None:
        """Let a refund become `status`. Raises ValueError for what cannot become of it."""
        row = self.refunds[refund_id]
        if status not in _NEXT[row.status]:
            raise ValueError(f"{row.id} is {row.status}, it cannot become {status}")
        charge = self.charges[row.charge]
        settled = replace(row, status=status)
        if status == "failed":
            settled = replace(
                settled, failure_reason=failure_reason or "unknown", failure_balance_transaction=new_id("txn")
            )
        before = _refunded(charge)
        self.refunds[row.id] = settled
        charge.refunds[[each.id for each in charge.refunds].index(row.id)] = settled
        if settled.is_over:
            charge.amount_refunded -= row.amount
        self._post("refund_status", charge, row.amount if settled.is_over else 0, refund=settled)
        for event_type in ("refund.updated", "charge.refund.updated"):
            self._tell_refund(event_type, settled, _NOBODY, {"status": row.status})
        if status == "failed":
            self._tell_refund("refund.failed", settled, _NOBODY)
        if settled.is_over:
            self._tell_charge("charge.updated", charge, _NOBODY, _changed(before, _refunded(charge)))

    def open_dispute(self, charge: Charge, amount: int | None, *, reason: str, inquiry: bool) -> Dispute:
        """Have the buyer's bank dispute `amount`, or all that is not refunded; an inquiry only asks."""
        amount = charge.amount - charge.amount_refunded if amount is None else amount
        if not 0 < amount <= charge.amount:
            raise ValueError(f"{charge.id} has no {amount} {charge.currency} to dispute")
        opened = Dispute(
            id=new_id("dp"),
            created=self._now(),
            charge=charge.id,
            payment_intent=charge.payment_intent,
            amount=amount,
            currency=charge.currency,
            status="warning_needs_response" if inquiry else "needs_response",
            reason=reason,
        )
        self._disputes_of.setdefault(charge.id, []).append(opened.id)
        self._change_dispute("charge.dispute.created", opened)
        if not charge.disputed:
            charge.disputed = True
            self._tell_charge("charge.updated", charge, _NOBODY, {"disputed": False})
        return opened

    def withdraw_funds(self, dispute_id: str) -> None:
        """Let the bank take the disputed money. Raises ValueError if it has, or if it only inquires."""
        row = self.disputes[dispute_id]
        if row.withdrawn is not None or row.status.startswith("warning"):
            raise ValueError(f"the funds of {row.id} ({row.status}) cannot be withdrawn, or already are")
        moved = replace(row, withdrawn=BalanceTransaction(new_id("txn"), self._now(), -row.amount))
        self._post("dispute", self.charges[row.charge], -row.amount, dispute=moved)
        self._change_dispute("charge.dispute.funds_withdrawn", moved)

    def reinstate_funds(self, dispute_id: str, amount: int | None = None) -> None:
        """Let the bank give it back, or so much of it. Raises ValueError if it did not take it, or has given back."""
        row = self.disputes[dispute_id]
        amount = row.amount if amount is None else amount
        if row.withdrawn is None or row.reinstated is not None or amount > row.amount:
            raise ValueError(f"the funds of {row.id} are not withdrawn, or not so much of them")
        moved = replace(row, reinstated=BalanceTransaction(new_id("txn"), self._now(), amount))
        self._post("reinstatement", self.charges[row.charge], amount, dispute=moved)
        self._change_dispute("charge.dispute.funds_reinstated", moved)

    def close_dispute(self, dispute_id: str, status: Literal["won", "lost", "warning_closed"]) -> None:
        """End a dispute, which moves no money. Raises ValueError if it has ended, or not like this."""
        row = self.disputes[dispute_id]
        ends: dict[DisputeStatus, tuple[DisputeStatus, ...]] = {
            "needs_response": ("won", "lost"),
            "warning_needs_response": ("warning_closed",),
        }
        if status not in ends.get(row.status, ()):
            raise ValueError(f"{row.id} is {row.status}, it cannot become {status}")
        self._change_dispute("charge.dispute.closed", replace(row, status=status), {"status": row.status})

    def _post(
        self,
        kind: Kind,
        charge: Charge,
        gain: int,
        *,
        refund: Refund | None = None,
        dispute: Dispute | None = None,
        cause: Cause = _NOBODY,
    ) -> None:
        """Write down what a refund or a dispute did: the purse gains (less than 0: loses) so much."""
        row = refund or dispute
        assert row is not None  # noqa: S101 - one of them is given
        debit, credit = (OUTSIDE, charge.purse) if gain > 0 else (charge.purse, OUTSIDE)
        self._ledger.post(
            kind,
            livemode=self._livemode,
            debit=debit,
            credit=credit,
            amount=row.amount,
            moved=abs(gain),
            currency=row.currency,
            charge=charge.id,
            refund=refund.id if refund else None,
            dispute=dispute.id if dispute else None,
            status=row.status,
            metadata=refund.metadata if refund else None,
            cause=cause,
        )

    def _change_dispute(self, event_type: str, row: Dispute, previous: Json | None = None) -> None:
        self.disputes[row.id] = row
        self._events.add(event_type, partial(shapes.dispute, row, self._livemode), _NOBODY, previous)

    def _tell_refund(self, event_type: str, row: Refund, cause: Cause, previous: Json | None = None) -> None:
        self._events.add(event_type, partial(shapes.refund, row), cause, previous)

    def _tell_charge(self, event_type: str, row: Charge, cause: Cause, previous: Json | None) -> None:
        as_it_is = replace(row, refunds=[])
        self._events.add(event_type, partial(shapes.charge_of_event, as_it_is, self._livemode), cause, previous)


def _refunded(charge: Charge) -> Json:
    return {"amount_refunded": charge.amount_refunded, "refunded": charge.amount_refunded == charge.amount}


def _changed(before: Json, after: Json) -> Json:
    return {name: value for name, value in before.items() if value != after[name]}
