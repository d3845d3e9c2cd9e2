"""What the app of a seed does, and the transfers it is about."""

from dataclasses import dataclass
from typing import Literal

from tests.chaos.faults import Rule

Kind = Literal["paid", "sent", "without id", "unknown id"]
"""paid: by the app, and recorded; sent: by the runners; without id: an old row; unknown id: none that Stripe knows."""

Charge = Literal["with group", "without group"]

Settled = Literal["succeeded", "failed", "canceled"]

Decider = Literal["app", "events"]
"""Who asks for the sellers' share of a refund: the app, or Stripe's events. See `refunds_by`."""

Turn = Literal["refund", "succeed", "fail", "dispute", "take", "win", "lose", "return", "return a part"]
"""What happens to a refund, or to a dispute and its money."""

LANES = 2  # the app makes its calls from so many threads


@dataclass(frozen=True, slots=True)
class Payout:
    """A transfer to a seller, `amount` in minor units, and what will befall it; times are seconds from the start."""

    key: str
    order: str
    seller: str
    account: str
    amount: int
    currency: str
    kind: Kind = "paid"
    is_late: bool = False
    """Recorded, or to be sent, after the order was refunded."""
    charge: Charge | None = None
    """What it is sent from, if not from the platform's balance; in seeds with buyers the charge of its order."""
    trouble: Rule | None = None
    """What Stripe does with the first request for it."""
    poor_until: float | None = None
    """The seller has spent the money, and gets new money then."""
    held: tuple[float, Settled] | None = None
    """Stripe accepts its first reversal and holds it; what becomes of that, and when."""
    elsewhere: tuple[float, int] | None = None
    """Somebody takes so much of it back in Stripe's Dashboard."""


@dataclass(frozen=True, slots=True)
class Record:
    """The app says that a transfer was made, or that it is to be sent."""

    at: float
    lane: int
    payout: Payout


@dataclass(frozen=True, slots=True)
class Ask:
    """The app asks for an order's money back: all of it, so much (`amount`), or (`allocation`) so much of each."""

    at: float
    lane: int
    order: str
    request: str
    reason: str
    allocation: tuple[tuple[str, int], ...] | None = None
    amount: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it asks for everything."""
        return self.allocation is None and self.amount is None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The app takes a request back for good, perhaps before it makes it.

    Or a person spares the sellers a refund or dispute: `request` is then its name, see Happening.
    """

    at: float
    lane: int
    order: str
    request: str


@dataclass(frozen=True, slots=True)
class Explain:
    """The app says which order the charge paid for, where Stripe does not."""

    at: float
    lane: int
    order: str


Call = Record | Ask | Withdraw | Explain
"""What the app does; how, is said in tests.chaos.app."""


@dataclass(frozen=True, slots=True)
class Funds:
    """The platform gets money that it can send."""

    at: float
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Bill:
    """What the buyer of an order paid, by one charge."""

    order: str
    amount: int
    currency: str
    group: str | None
    """The charge's transfer_group: the order, something else, or nothing."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What becomes of a bill: `name` is the refund or dispute, `amount` how much of the bill (null: what is left)."""

    at: float
    order: str
    name: str
    turn: Turn
    amount: int | None = None
    is_pending: bool = False


@dataclass(slots=True)
class Cause:
    """A refund or dispute at Stripe; `stands`: the platform is without its amount, but for what `came_back`."""

    order: str
    amount: int
    stands: bool
    came_back: int = 0
