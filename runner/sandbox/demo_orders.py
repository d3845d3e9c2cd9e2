"""The orders that the demo makes up: the same ones every time, and what will go wrong with which transfer."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

_SEED = 20_25
_SELLERS = 40
_SHARE_FROM_CHARGE = 0.4  # of the orders: their transfers name the buyer's charge as their source
_MOST = 10  # orders of one story, but for the usual ones
_WHEN_RUNNER_DIES = 0.4  # of the way through the refunds

# Smallest amount, largest and step, in minor units. Stripe wants the last digit of three-decimal currencies to be 0.
_AMOUNTS = {
    "usd": (500, 25_000, 1),
    "eur": (500, 25_000, 1),
    "gbp": (400, 20_000, 1),
    "jpy": (500, 30_000, 1),
    "kwd": (1_500, 80_000, 10),
}


class Story(StrEnum):
    """What befalls a transfer, in the words of the report."""

    KEPT = "not refunded"
    PLAIN = "refunded, nothing special"
    REFUNDED_TWICE = "the same refund requested twice"
    PART_OF_ORDER = "half of the order refunded"
    PART_OF_ONE = "two parts of a seller's share refunded"
    UNKNOWN_ID = "recorded with an id that Stripe does not know"
    REVERSED_BY_HAND = "reversed in Stripe's Dashboard by a person"
    NO_ID = "an old row: its Stripe id was never kept"
    NEVER_SENT = "refunded before the seller was paid"
    SERVER_ERROR = "Stripe moved the money, then answered 500"
    LOST_ANSWER = "Stripe moved the money, the connection broke"
    CUT_ANSWER = "Stripe moved the money, half an answer came"
    HANGING_ANSWER = "Stripe moved the money, the answer never ended"
    LOST_REQUEST = "the connection broke before Stripe did anything"
    RATE_LIMITED = "429 rate_limit, twice"
    LOCKED = "429 lock_timeout"
    REFUSED_TWICE = "400 twice, kept by Stripe under each key"
    ALWAYS_REFUSED = "400 every time"
    TOO_POOR = "the seller's balance was too low for a while"
    SLOW = "Stripe took 2 s to answer"
    RUNNER_KILLED = "in flight when a runner was killed"


# How many orders in a thousand; at least one of each, and not more than a reader has use for.
_FREQUENCY = {
    Story.REFUNDED_TWICE: 10,
    Story.PART_OF_ORDER: 20,
    Story.PART_OF_ONE: 20,
    Story.UNKNOWN_ID: 7,
    Story.REVERSED_BY_HAND: 10,
    Story.NO_ID: 7,
    Story.NEVER_SENT: 10,
    Story.SERVER_ERROR: 10,
    Story.LOST_ANSWER: 10,
    Story.CUT_ANSWER: 10,
    Story.HANGING_ANSWER: 4,
    Story.LOST_REQUEST: 10,
    Story.RATE_LIMITED: 20,
    Story.LOCKED: 10,
    Story.REFUSED_TWICE: 10,
    Story.ALWAYS_REFUSED: 1,
    Story.TOO_POOR: 7,
    Story.SLOW: 4,
    Story.RUNNER_KILLED: 20,
}

# These are about the whole order, the others about the transfer to its first seller.
_OF_THE_WHOLE_ORDER = (Story.KEPT, Story.PLAIN, Story.REFUNDED_TWICE, Story.PART_OF_ORDER, Story.NEVER_SENT)


@dataclass(frozen=True, slots=True)
class Payout:
    """What one seller gets of an order; `amount` in minor units, `key` is the app's own for it."""

    key: str
    seller: str
    account: str
    amount: int
    currency: str
    story: Story


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its payouts, all in one currency; `refund` is the id of its refund, if it is refunded."""

    id: str
    payouts: tuple[Payout, ...]
    from_charge: bool
    refund: str | None

    @property
    def story(self) -> Story:
        """What the order is known for."""
        return self.payouts[0].story

    @property
    def currency(self) -> str:
        """Three lower-case letters."""
        return self.payouts[0].currency

    @property
    def paid_by_buyer(self) -> int:
        """What the buyer was charged, in minor units: the sellers' money and a tenth of it for the platform."""
        sold = sum(payout.amount for payout in self.payouts)
        return sold + sold // 10

    @property
    def half(self) -> int:
        """Half of what the sellers got, in amounts that Stripe takes in any currency."""
        return sum(payout.amount for payout in self.payouts) // 20 * 10

    @property
    def third_of_first(self) -> int:
        """A third of what the first seller got, likewise."""
        return self.payouts[0].amount // 30 * 10


def make_orders(count: int) -> list[Order]:
    """Make up `count` (≥ 20) orders, about two thirds of them with a refund."""
    rng = random.Random(_SEED)  # noqa: S311 - repeatable, not secret
    numbers = {story: min(max(1, count * frequency // 1000), _MOST) for story, frequency in _FREQUENCY.items()}
    stories = [story for story, number in numbers.items() for _ in range(number)]
    stories += [Story.PLAIN] * (count * 2 // 3 - len(stories))
    stories += [Story.KEPT] * (count - len(stories))
    rng.shuffle(stories)
    return [_make_order(rng, number, story) for number, story in enumerate(stories, start=1)]


def refunds_in_order(orders: list[Order]) -> list[Order]:
    """Give the refunded orders in the order of their refunds.

    The one that takes longest goes first. Those that a runner is killed over are refunded together, and those that
    keep a runner busy for seconds after them, so that nothing else is in flight with it.
    """
    refunded = [order for order in orders if order.refund is not None]
    random.Random(_SEED).shuffle(refunded)  # noqa: S311 - repeatable, not secret
    first = [order for order in refunded if order.story is Story.ALWAYS_REFUSED]
    together = [order for order in refunded if order.story is Story.RUNNER_KILLED]
    slow = [order for order in refunded if order.story in (Story.SLOW, Story.HANGING_ANSWER)]
    placed = {order.id for order in (*first, *together, *slow)}
    others = [order for order in refunded if order.id not in placed]
    middle = int(len(others) * _WHEN_RUNNER_DIES)
    return [*first, *others[:middle], *together, *slow, *others[middle:]]


def payouts_of(orders: list[Order]) -> Iterator[Payout]:
    """Give every payout of these orders."""
    for order in orders:
        yield from order.payouts


def _make_order(rng: random.Random, number: int, story: Story) -> Order:
    order_id = f"order-{number:04}"
    currency = rng.choice(list(_AMOUNTS))
    smallest, largest, step = _AMOUNTS[currency]
    payouts = [
        Payout(
            key=f"{order_id}/{position}",
            seller=f"seller-{seller:02}",
            account=f"acct_1Seller{seller:02}",
            amount=rng.randrange(smallest, largest, step),
            currency=currency,
            story=_story_at(position, story),
        )
        for position, seller in enumerate(rng.sample(range(1, _SELLERS + 1), rng.randint(1, 3)), start=1)
    ]
    if story is Story.TOO_POOR:
        # A seller with nothing else, so that a balance too low here is too low for nobody else.
        payouts[0] = replace(payouts[0], seller=f"seller-of-{number:04}", account=f"acct_1SellerOf{number:04}")
    return Order(
        id=order_id,
        payouts=tuple(payouts),
        from_charge=rng.random() < _SHARE_FROM_CHARGE,
        refund=None if story is Story.KEPT else f"re_1Refund{number:04}",
    )


def _story_at(position: int, story: Story) -> Story:
    if position == 1 or story in _OF_THE_WHOLE_ORDER:
        return story
    return Story.KEPT if story is Story.PART_OF_ONE else Story.PLAIN
