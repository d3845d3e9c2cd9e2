"""The orders whose whole life the demo shows: charged, paid out, refunded, disputed, and what each seller keeps.

Written out by hand, the result too: what a seller keeps is their share of what the buyer did not get back. The amounts
are such that this comes out even, so that nothing depends on how a remainder is spread.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Do(StrEnum):
    """What a buyer, their bank or Stripe does to a charge."""

    REFUND = "refund"
    REFUND_FAILS = "refund fails"
    INQUIRE = "inquire"
    DISPUTE = "dispute"
    WITHDRAW = "withdraw"
    REINSTATE = "reinstate"
    WIN = "win"
    LOSE = "lose"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to a charge; `amount` in minor units where one is needed, or less than all is given back.

    A failure is that of the charge's newest refund, everything about a dispute is about its newest one.
    """

    do: Do
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one seller is to get of an order, and what they `keep` when all is over, in minor units."""

    key: str
    seller: str
    account: str
    amount: int
    keeps: int


@dataclass(frozen=True, slots=True)
class Life:
    """An order from the buyer's payment to its end.

    `names_charge`: its transfers name the charge as their source; otherwise they are paid from the platform's balance.
    `early` happens before the app creates the transfers. The others happen after all of them are paid, round by
    round: every round waits until nothing is left to do for the runners.
    """

    order_id: str
    told: str
    currency: str
    charged: int
    names_charge: bool
    shares: tuple[Share, ...]
    early: tuple[Step, ...] = ()
    rounds: tuple[tuple[Step, ...], ...] = ()


def keeps_by_seller(lives: Sequence[Life]) -> Counter[tuple[str, str]]:
    """Add up what is to be left with each account, by (account, currency)."""
    keeps: Counter[tuple[str, str]] = Counter()
    for life in lives:
        for share in life.shares:
            keeps[share.account, life.currency] += share.keeps
    return keeps


def _life(
    told: str,
    currency: str,
    charged: int,
    *shares: tuple[str, int, int],
    names_charge: bool = True,
    early: tuple[Step, ...] = (),
    rounds: tuple[tuple[Step, ...], ...] = (),
) -> Life:
    """Make a life that has no number yet."""
    made = tuple(
        Share(f"/{position}", seller, f"acct_1Life{seller.capitalize()}", amount, keeps)
        for position, (seller, amount, keeps) in enumerate(shares, start=1)
    )
    return Life("", told, currency, charged, names_charge, made, early, rounds)


def _refund(amount: int) -> Step:
    return Step(Do.REFUND, amount)


_FAILS = Step(Do.REFUND_FAILS)
_TAKEN, _GIVEN_BACK = Step(Do.WITHDRAW), Step(Do.REINSTATE)

# Each share is a seller, what they are to get, and what they keep; of every charge the platform keeps a tenth.
_LIVES = (
    _life("paid out, one seller", "usd", 10_000, ("ann", 9_000, 9_000)),
    _life(
        "paid out from the balance, three sellers",
        "eur",
        20_000,
        ("ann", 9_000, 9_000),
        ("ben", 6_000, 6_000),
        ("cleo", 3_000, 3_000),
        names_charge=False,
    ),
    _life("refunded in full", "usd", 5_000, ("ann", 4_500, 0), rounds=((_refund(5_000),),)),
    _life(
        "refunded in full, two sellers",
        "gbp",
        12_000,
        ("ben", 6_000, 0),
        ("cleo", 4_800, 0),
        names_charge=False,
        rounds=((_refund(12_000),),),
    ),
    # half of it: 9000 - 4500
    _life("refunded by half", "usd", 10_000, ("ben", 9_000, 4_500), rounds=((_refund(5_000),),)),
    # a third of each: 15000 - 5000, 9000 - 3000, 3000 - 1000
    _life(
        "refunded by a third, three sellers",
        "eur",
        30_000,
        ("ann", 15_000, 10_000),
        ("ben", 9_000, 6_000),
        ("dov", 3_000, 2_000),
        rounds=((_refund(10_000),),),
    ),
    # three times 2700 of 8100
    _life(
        "refunded by thirds, until nothing was left",
        "jpy",
        9_000,
        ("cleo", 8_100, 0),
        names_charge=False,
        rounds=((_refund(3_000),), (_refund(3_000),), (_refund(3_000),)),
    ),
    # a third, then a sixth, so a half is gone: 18000 - 6000 - 3000, 9000 - 3000 - 1500
    _life(
        "refunded twice in part, two sellers",
        "kwd",
        30_000,
        ("ann", 18_000, 9_000),
        ("dov", 9_000, 4_500),
        rounds=((_refund(10_000),), (_refund(5_000),)),
    ),
    _life(
        "refunded before the sellers were paid",
        "usd",
        8_000,
        ("ben", 4_000, 0),
        ("dov", 3_200, 0),
        early=(_refund(8_000),),
    ),
    # a fifth was gone before they were sent anything: 9000 - 1800
    _life(
        "refunded by a fifth before the seller was paid",
        "eur",
        10_000,
        ("cleo", 9_000, 7_200),
        early=(_refund(2_000),),
    ),
    _life(
        "disputed, and lost",
        "usd",
        8_000,
        ("dov", 7_200, 0),
        rounds=((Step(Do.DISPUTE, 8_000), _TAKEN), (Step(Do.LOSE),)),
    ),
    # half of it: 4000 - 2000, 3200 - 1600
    _life(
        "disputed by half, and lost, two sellers",
        "gbp",
        8_000,
        ("ann", 4_000, 2_000),
        ("ben", 3_200, 1_600),
        names_charge=False,
        rounds=((Step(Do.DISPUTE, 4_000), _TAKEN), (Step(Do.LOSE),)),
    ),
    # taken back, and paid once more
    _life(
        "disputed, and won",
        "eur",
        6_000,
        ("dov", 5_400, 5_400),
        rounds=((Step(Do.DISPUTE, 6_000), _TAKEN), (Step(Do.WIN), _GIVEN_BACK)),
    ),
    # taken back, and what came back of it paid once more: 5400 - 5400 + 3240
    _life(
        "disputed, and won in part",
        "eur",
        6_000,
        ("dov", 5_400, 3_240),
        rounds=((Step(Do.DISPUTE, 6_000), _TAKEN), (Step(Do.LOSE), Step(Do.REINSTATE, 3_600))),
    ),
    _life(
        "inquired about, no money taken",
        "jpy",
        4_000,
        ("ben", 3_600, 3_600),
        rounds=((Step(Do.INQUIRE, 4_000),), (Step(Do.CLOSE),)),
    ),
    _life(
        "refunded, and days later the refund failed",
        "usd",
        7_000,
        ("ann", 4_200, 4_200),
        ("cleo", 2_100, 2_100),
        names_charge=False,
        rounds=((_refund(7_000),), (_FAILS,)),
    ),
    _life(
        "refunded by two fifths, which failed at once",
        "kwd",
        10_000,
        ("ben", 9_000, 9_000),
        rounds=((_refund(4_000), _FAILS),),
    ),
    # a quarter is gone for good, a half came back: 9000 - 2250 - 4500 + 4500
    _life(
        "refunded twice in part, the second one failed",
        "usd",
        10_000,
        ("cleo", 9_000, 6_750),
        rounds=((_refund(2_500),), (_refund(5_000),), (_FAILS,)),
    ),
)


def make_lives() -> list[Life]:
    """Give the orders: the same ones every time, at least one of everything that can happen to one."""
    return [_numbered(life, f"life-{number:02}") for number, life in enumerate(_LIVES, start=1)]


def _numbered(life: Life, order_id: str) -> Life:
    shares = tuple(replace(share, key=f"{order_id}{share.key}") for share in life.shares)
    return replace(life, order_id=order_id, shares=shares)
