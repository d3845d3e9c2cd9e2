"""The state behind the API: accounts, charges, transfers, reversals and what money they moved.

One `World` per mode, test and live: objects of one cannot be seen from the other, as at Stripe. Every method
that changes something is plain synchronous code that checks first and then changes everything, so that the
state and the ledger agree at any moment another request can look.

How money flows: a charge brings money from outside into the platform's pending balance, and there it stays
for transfers that name it as their source; any other transfer is paid from the platform's available balance.
A reversal takes from the connected account's available balance and gives to the platform's.
"""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import errors
from .ledger import OUTSIDE, Cause, Ledger

PLATFORM = "acct_1SandboxPlatform"
PENDING = f"{PLATFORM}/pending"

ReversalStatus = Literal["pending", "succeeded", "failed", "canceled"]


def new_id(prefix: str) -> str:
    """Give an id that looks like Stripe's: `tr_1` and 24 letters and digits."""
    return f"{prefix}_1{secrets.token_hex(12)}"


@dataclass(slots=True)
class Account:
    """A connected account, or the platform's own."""

    id: str
    created: int
    country: str = "US"
    default_currency: str = "usd"


@dataclass(slots=True)
class Charge:
    """A succeeded payment by a buyer; `transferred` of its amount has gone into transfers that name it."""

    id: str
    created: int
    amount: int
    currency: str
    transfer_group: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    transferred: int = 0
    balance_transaction: str = field(default_factory=lambda: new_id("txn"))


@dataclass(slots=True)
class Reversal:
    """Some of a transfer taken back. `status` is null but for those made under a pending-reversal fault."""

    id: str
    seq: int
    created: int
    transfer: str
    amount: int
    currency: str
    metadata: dict[str, str]
    status: ReversalStatus | None = None
    balance_transaction: str = field(default_factory=lambda: new_id("txn"))
    destination_payment_refund: str = field(default_factory=lambda: new_id("pyr"))


@dataclass(slots=True)
class Transfer:
    """Money given to a connected account; `amount_reversed` counts pending reversals, not failed ones."""

    id: str
    seq: int
    created: int
    amount: int
    currency: str
    destination: str
    source_transaction: str | None
    transfer_group: str | None
    description: str | None
    metadata: dict[str, str]
    amount_reversed: int = 0
    reversals: list[Reversal] = field(default_factory=list)
    balance_transaction: str = field(default_factory=lambda: new_id("txn"))
    destination_payment: str = field(default_factory=lambda: new_id("py"))


class World:
    """All objects of one mode."""

    def __init__(self, ledger: Ledger, *, livemode: bool) -> None:
        self.ledger = ledger
        self.livemode = livemode
        self.platform = Account(PLATFORM, self._now())
        self.accounts: dict[str, Account] = {}
        self.charges: dict[str, Charge] = {}
        self.transfers: dict[str, Transfer] = {}
        self.reversals: dict[str, Reversal] = {}
        self._in_order: list[Transfer] = []
        self._by_destination: dict[str, list[Transfer]] = defaultdict(list)

    def _now(self) -> int:
        return int(self.ledger.clock.now())

    def transfers_in_order(self, destination: str | None) -> Sequence[Transfer]:
        """Give all transfers, or those to one account, oldest first."""
        return self._in_order if destination is None else self._by_destination.get(destination, [])

    def currencies(self, account: str) -> list[str]:
        """Give the currencies an account has ever held, sorted; its default one if none."""
        names = set(self.ledger.holding(self.livemode, account))
        if account == PLATFORM:
            names |= set(self.ledger.holding(self.livemode, PENDING))
        return sorted(names or {self.accounts.get(account, self.platform).default_currency})

    def available(self, account: str, currency: str) -> int:
        """Give what an account can spend; a connected account's may be negative."""
        return self.ledger.balance(self.livemode, account, currency)

    # What the control plane does.

    def add_account(self, account_id: str | None, country: str, default_currency: str) -> Account:
        """Add a connected account; the same id again replaces its properties, not its money."""
        account = Account(account_id or new_id("acct"), self._now(), country, default_currency)
        self.accounts[account.id] = account
        return account

    def fund(self, account: str, amount: int, currency: str) -> None:
        """Bring money in from outside; a negative amount takes it out, below zero if need be, like a payout."""
        debit, credit = (OUTSIDE, account) if amount >= 0 else (account, OUTSIDE)
        self.ledger.post(
            "funding",
            livemode=self.livemode,
            debit=debit,
            credit=credit,
            amount=abs(amount),
            currency=currency,
        )

    def add_charge(self, amount: int, currency: str, *, transfer_group: str | None, metadata: dict[str, str]) -> Charge:
        """Add a succeeded charge and its money, which stays pending."""
        charge = Charge(new_id("ch"), self._now(), amount, currency, transfer_group, metadata)
        self.charges[charge.id] = charge
        self.ledger.post(
            "charge",
            livemode=self.livemode,
            debit=OUTSIDE,
            credit=PENDING,
            amount=amount,
            currency=currency,
            charge=charge.id,
            metadata=metadata,
        )
        return charge

    # What the API does.

    def transfer(
        self,
        *,
        amount: int,
        currency: str,
        destination: str,
        source: Charge | None = None,
        transfer_group: str | None = None,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        cause: Cause = Cause(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> Transfer:
        """Pay a connected account, which must exist. Raises StripeError as Stripe would refuse."""
        if source is None:
            if self.available(PLATFORM, currency) < amount:
                raise errors.platform_balance_too_low(self.livemode)
        else:
            if transfer_group is not None and source.transfer_group is not None:
                raise errors.transfer_group_already_set()
            if source.currency != currency:
                raise errors.source_currency_differs(source.currency, currency)
            if source.transferred + amount > source.amount:
                used = f"{source.transferred} {currency}" if source.transferred else None
                raise errors.source_amount_exceeded(f"{source.amount} {currency}", used)
            transfer_group = source.transfer_group or transfer_group
            source.transferred += amount
        transfer = Transfer(
            id=new_id("tr"),
            seq=len(self._in_order) + 1,
            created=self._now(),
            amount=amount,
            currency=currency,
            destination=destination,
            source_transaction=source.id if source else None,
            transfer_group=transfer_group,
            description=description,
            metadata=metadata or {},
        )
        self.transfers[transfer.id] = transfer
        self._in_order.append(transfer)
        self._by_destination[destination].append(transfer)
        self.ledger.post(
            "transfer",
            livemode=self.livemode,
            debit=PENDING if source else PLATFORM,
            credit=destination,
            amount=amount,
            currency=currency,
            transfer=transfer.id,
            charge=transfer.source_transaction,
            destination=destination,
            metadata=transfer.metadata,
            cause=cause,
        )
        return transfer

    def reverse(
        self, transfer: Transfer, amount: int | None, metadata: dict[str, str], *, pending: bool, cause: Cause
    ) -> Reversal:
        """Take back `amount`, or all that is left. Raises StripeError as Stripe would refuse.

        A `pending` reversal claims its share of the transfer at once and moves the money when it is settled.
        """
        unreversed = transfer.amount - transfer.amount_reversed
        if unreversed == 0:
            raise errors.already_fully_reversed(transfer.id)
        amount = unreversed if amount is None else amount
        if amount > unreversed:
            raise errors.more_than_unreversed(amount, unreversed)
        if not pending and self.available(transfer.destination, transfer.currency) < amount:
            raise errors.connected_balance_too_low()
        reversal = Reversal(
            id=new_id("trr"),
            seq=len(transfer.reversals) + 1,
            created=self._now(),
            transfer=transfer.id,
            amount=amount,
            currency=transfer.currency,
            metadata=metadata,
            status="pending" if pending else None,
        )
        transfer.amount_reversed += amount
        transfer.reversals.append(reversal)
        self.reversals[reversal.id] = reversal
        self._post_reversal("reversal", transfer, reversal, moved=0 if pending else amount, cause=cause)
        return reversal

    def settle(self, reversal: Reversal, status: ReversalStatus) -> None:
        """End a pending reversal: succeeded moves its money, failed and canceled give its share back."""
        if reversal.status != "pending" or status == "pending":
            raise ValueError(f"{reversal.id} is {reversal.status or 'not pending'}, it cannot become {status}")
        transfer = self.transfers[reversal.transfer]
        if status == "succeeded" and self.available(transfer.destination, transfer.currency) < reversal.amount:
            raise ValueError(f"the balance of {transfer.destination} is too low for {reversal.id}")
        reversal.status = status
        if status != "succeeded":
            transfer.amount_reversed -= reversal.amount
        moved = reversal.amount if status == "succeeded" else 0
        self._post_reversal("reversal_status", transfer, reversal, moved=moved, cause=Cause())

    def _post_reversal(
        self,
        kind: Literal["reversal", "reversal_status"],
        transfer: Transfer,
        reversal: Reversal,
        *,
        moved: int,
        cause: Cause,
    ) -> None:
        self.ledger.post(
            kind,
            livemode=self.livemode,
            debit=transfer.destination,
            credit=PLATFORM,
            amount=reversal.amount,
            moved=moved,
            currency=reversal.currency,
            transfer=transfer.id,
            reversal=reversal.id,
            destination=transfer.destination,
            status=reversal.status,
            metadata=reversal.metadata,
            cause=cause,
        )
