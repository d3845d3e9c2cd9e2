"""The state behind the API: accounts, transfers, reversals and what money they moved.

One `World` per mode, test and live: objects of one cannot be seen from the other, as at Stripe. Every method
that changes something is plain synchronous code that checks first and then changes everything, so that the
state and the ledger agree at any moment another request can look.

How money flows: a transfer that names a charge as its source is paid from where the charge's money came in (see
`payments`), any other from the platform's available balance. A reversal takes from the connected account's available
balance and gives to the platform's.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from . import errors, shapes
from .events import Events
from .ledger import OUTSIDE, Cause, Ledger
from .objects import PENDING, PLATFORM, Account, Charge, Reversal, ReversalStatus, Transfer, new_id
from .payments import Payments
from .wire import EMBEDDED


class World:
    """All objects of one mode."""

    def __init__(self, ledger: Ledger, events: Events, *, livemode: bool) -> None:
        self.ledger = ledger
        self.events = events
        self.livemode = livemode
        self.platform = Account(PLATFORM, self._now())
        self.accounts: dict[str, Account] = {}
        self.payments = Payments(ledger, events, livemode=livemode)
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
            debit=source.purse if source else PLATFORM,
            credit=destination,
            amount=amount,
            currency=currency,
            transfer=transfer.id,
            charge=transfer.source_transaction,
            destination=destination,
            metadata=transfer.metadata,
            cause=cause,
        )
        self._tell("transfer.created", transfer, cause)
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
        self._tell("transfer.reversed", transfer, cause)
        return reversal

    def settle(self, reversal: Reversal, status: ReversalStatus) -> None:
        """End a pending reversal: succeeded moves its money, failed and canceled give its share back."""
        if reversal.status != "pending" or status == "pending":
            raise ValueError(f"{reversal.id} is {reversal.status or 'not pending'}, it cannot become {status}")
        transfer = self.transfers[reversal.transfer]
        if status == "succeeded" and self.available(transfer.destination, transfer.currency) < reversal.amount:
            raise ValueError(f"the balance of {transfer.destination} is too low for {reversal.id}")
        settled = replace(reversal, status=status)
        self.reversals[reversal.id] = transfer.reversals[reversal.seq - 1] = settled
        if status != "succeeded":
            transfer.amount_reversed -= reversal.amount
        moved = reversal.amount if status == "succeeded" else 0
        self._post_reversal("reversal_status", transfer, settled, moved=moved, cause=Cause())
        self._tell("transfer.updated", transfer, Cause())

    def _tell(self, event_type: str, transfer: Transfer, cause: Cause) -> None:
        # One more than it embeds, to know that there are more.
        as_it_is = replace(transfer, reversals=transfer.reversals[-EMBEDDED - 1 :])
        self.events.add(event_type, partial(shapes.transfer, as_it_is, self), cause)

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
