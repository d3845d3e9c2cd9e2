"""What is asked of each seller's money, kept by hand: what he has in the end follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

QUANTA = {"usd": 1, "jpy": 1, "kwd": 10}


@dataclass(frozen=True, slots=True)
class Key:
    """A transfer as the app names it. Nobody else pays into its account."""

    name: str
    order: str
    amount: int
    currency: str

    @property
    def account(self) -> str:
        return f"acct_{self.name.removeprefix('key-')}"


@dataclass(frozen=True, slots=True)
class Order:
    """One currency; its refunds are asked for by the app, or by Stripe's events where it names its charge."""

    id: str
    currency: str
    charge: str | None
    charge_amount: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """What the app asked for; of all there is and is to come where it names no parts."""

    order: str
    parts: Mapping[str, int] | None


@dataclass(slots=True)
class Cause:
    """A refund or a dispute of an order's charge, at Stripe."""

    order: str
    amount: int
    stands: bool


@dataclass
class Wanted:
    """All orders, and what was asked of them."""

    orders: dict[str, Order] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    causes: dict[str, Cause] = field(default_factory=dict)

    def keys_of(self, order: str) -> list[Key]:
        return [key for key in self.keys.values() if key.order == order]

    def standing(self, order: str) -> list[Request]:
        return [request for id, request in self.requests.items() if request.order == order and id not in self.withdrawn]

    def is_whole(self, order: str) -> bool:
        """Whether nobody is to be paid for the order any more."""
        return any(request.parts is None for request in self.standing(order))

    def left(self, key: Key) -> range:
        """What the seller is to have in the end; by shares of a charge, a rounding for each refund is not made good."""
        order = self.orders[key.order]
        if order.charge is None:
            parts = [request.parts for request in self.standing(key.order)]
            left = key.amount - sum(part.get(key.name, 0) for part in parts if part is not None)
            left = 0 if None in parts else left
            return range(left, left + 1)
        causes = [cause for cause in self.causes.values() if cause.order == key.order]
        left = key.amount - self._share(key, sum(cause.amount for cause in causes if cause.stands), order)
        return range(max(0, left - len(causes) * QUANTA[key.currency]), left + 1)

    def _share(self, key: Key, gone: int, order: Order) -> int:
        assert order.charge_amount is not None
        if gone >= order.charge_amount:
            return key.amount
        quantum = QUANTA[key.currency]
        rounded = (2 * key.amount * gone + order.charge_amount * quantum) // (2 * order.charge_amount * quantum)
        return min(key.amount, rounded * quantum)
