"""The objects behind the API, as far as the simulator knows anything of them.

What an event shows is how its object was at that moment. So what is whole at birth but for a status is frozen, and a
change puts another one in its place; of a transfer or a charge an event takes a copy.
"""

import secrets
from dataclasses import dataclass, field
from typing import Literal

PLATFORM = "acct_1SandboxPlatform"
PENDING = f"{PLATFORM}/pending"

ReversalStatus = Literal["pending", "succeeded", "failed", "canceled"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
DisputeStatus = Literal["warning_needs_response", "warning_closed", "needs_response", "won", "lost"]


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
    """A succeeded payment by a buyer.

    `transferred` of its amount has gone into transfers that name it, `amount_refunded` into refunds that did not
    fail: those still pending count. `purse` is where its money came in: the platform's pending balance, or at once
    the available one. Refunds and disputes take it out there, below zero if need be, as from a bank account.
    """

    id: str
    created: int
    amount: int
    currency: str
    transfer_group: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    purse: str = PENDING
    transferred: int = 0
    amount_refunded: int = 0
    disputed: bool = False
    refunds: list["Refund"] = field(default_factory=list)
    payment_intent: str = field(default_factory=lambda: new_id("pi"))
    balance_transaction: str = field(default_factory=lambda: new_id("txn"))


@dataclass(frozen=True, slots=True)
class Refund:
    """Some of a charge given back to the buyer; its money leaves at birth and comes back if it fails."""

    id: str
    seq: int
    created: int
    charge: str
    payment_intent: str
    amount: int
    currency: str
    status: RefundStatus
    reason: str | None
    metadata: dict[str, str]
    failure_reason: str | None = None
    failure_balance_transaction: str | None = None
    balance_transaction: str = field(default_factory=lambda: new_id("txn"))

    @property
    def is_over(self) -> bool:
        """Whether it came to nothing."""
        return self.status in ("failed", "canceled")


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    """What a dispute did to the platform's balance: less than 0 was withdrawn, more was reinstated."""

    id: str
    created: int
    amount: int


@dataclass(frozen=True, slots=True)
class Dispute:
    """A buyer's bank wants money back; `withdrawn` and `reinstated` follow, each once, if at all."""

    id: str
    created: int
    charge: str
    payment_intent: str
    amount: int
    currency: str
    status: DisputeStatus
    reason: str
    withdrawn: BalanceTransaction | None = None
    reinstated: BalanceTransaction | None = None

    @property
    def is_charge_refundable(self) -> bool:
        """Whether the charge may yet be refunded: while the bank only inquires, and once the dispute is won."""
        return self.status not in ("needs_response", "lost")


@dataclass(frozen=True, slots=True)
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
