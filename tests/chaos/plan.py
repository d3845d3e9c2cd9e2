"""What happens in a seed, and when: drawn from random.Random(seed) and nothing else.

The same seed is the same plan. It is not the same run: which request a fault meets, and what a runner is at when it is
killed, is up to the machine.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.chaos.faults import Fault, draw_faults, usual_latency
from tests.chaos.times import Times

Kind = Literal["paid", "late", "without id", "unknown id", "unsent"]
"""late: recorded after the order was refunded; without id: an old row; unknown id: none that Stripe knows."""

Story = Literal["all", "parts", "late", "unsent", "kept", "without id", "unknown id"]
"""What is asked of an order: all, parts, or nothing; or what is special about its transfers."""

_STORIES: tuple[Story, ...] = ("all", "parts", "late", "unsent", "kept")
_FREQUENCIES = (9, 8, 2, 1, 2)

Settled = Literal["succeeded", "failed", "canceled"]

LANES = 2  # the app makes its calls from so many threads

_SMALL = 20  # fewer rows than that are a short seed

# Smallest amount, largest and step, in minor units. Stripe wants the last digit of three-decimal currencies to be 0.
_AMOUNTS = {"usd": (50, 25_000, 1), "eur": (50, 25_000, 1), "jpy": (50, 30_000, 1), "kwd": (1_000, 80_000, 10)}


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
    poor_until: float | None = None
    """The seller has spent the money, and gets new money then."""
    held: tuple[float, Settled] | None = None
    """Stripe accepts its first reversal and holds it; what becomes of that, and when."""
    elsewhere: tuple[float, int] | None = None
    """Somebody takes so much of it back in Stripe's Dashboard."""


@dataclass(frozen=True, slots=True)
class Record:
    """The app says that a transfer was made, or is to be made."""

    at: float
    lane: int
    payout: Payout


@dataclass(frozen=True, slots=True)
class Ask:
    """The app asks for an order's money back: all of it, or (`allocation`) so much of these transfers."""

    at: float
    lane: int
    order: str
    request: str
    reason: str
    allocation: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will happen."""

    seed: int
    rows: int
    times: Times
    seconds: float
    runners: int
    slots: int
    prunes_keys: bool
    """Stripe forgets keys as soon as it may; otherwise never."""
    latency: list[dict[str, Any]]
    payouts: list[Payout]
    calls: list[Record | Ask]
    faults: list[Fault]

    def lines(self) -> Iterator[str]:
        """Give the plan for a person to read."""
        yield (
            f"seed {self.seed}, {self.rows} rows: {self.runners} runners with {self.slots} slots, {self.seconds:g} s of"
            f" faults; lease {self.times.lease:g} s, call deadline {self.times.call_deadline:g} s, late calls up to"
            f" {self.times.late:g} s, quiet {self.times.quiet:g} s, keys sent for {self.times.key_max_age:g} s and"
            f" {f'forgotten after {self.times.keys_kept:g} s' if self.prunes_keys else 'never forgotten'}"
        )
        for payout in self.payouts:
            fate = {"poor until": payout.poor_until, "held": payout.held, "reversed elsewhere": payout.elsewhere}
            told = "".join(f", {name} {what}" for name, what in fate.items() if what is not None)
            yield f"  {payout.key}: {payout.amount} {payout.currency} to {payout.account}, {payout.kind}{told}"
        happenings = [(call.at, _told(call)) for call in self.calls]
        happenings += [(fault.at, f"{fault.what} {fault.how or ''}") for fault in self.faults]
        for at, told in sorted(happenings):
            yield f"  {at:6.2f} s {told}"


def _told(call: Record | Ask) -> str:
    if isinstance(call, Record):
        return f"app {call.lane}: record {call.payout.key}"
    what = "all" if call.allocation is None else ", ".join(f"{amount} of {key}" for key, amount in call.allocation)
    return f"app {call.lane}: {call.reason} {call.request} of {call.order}: {what}"


def make_plan(seed: int, rows: int) -> Plan:
    """Draw the plan of a seed with about so many transfers."""
    rng = random.Random(seed)
    small = rows < _SMALL
    times = Times(1.0 if small else rng.choice((1.5, 1.75, 2.0)))
    seconds = 2.5 if small else min(6 + rows * 0.15, 30)
    runners = 2 if small else rng.choice((3, 4))
    faults = draw_faults(rng, times, seconds, runners, small=small)
    draw = _Orders(rng, rows, seconds, [fault.at for fault in faults if fault.what in _INTERRUPTIONS])
    draw.all()
    return Plan(
        seed=seed,
        rows=rows,
        times=times,
        seconds=seconds,
        runners=runners,
        slots=rng.choice((2, 4, 8)),
        prunes_keys=rng.random() < 0.7,
        latency=usual_latency(rng, times),
        payouts=draw.payouts,
        calls=sorted(draw.calls, key=lambda call: call.at),
        faults=sorted(faults, key=lambda fault: fault.at),
    )


# What takes a call from its runner: refunds come in shortly before, so that there are calls to take.
_INTERRUPTIONS = ("crash_database", "kill_runner", "pause_runner", "take_line_down", "cut_everything", "revoke_key")


class _Orders:
    """Draws the orders, and what the app does about them."""

    def __init__(self, rng: random.Random, rows: int, seconds: float, interruptions: list[float]) -> None:
        self._rng = rng
        self._rows = rows
        self._seconds = seconds
        self._interruptions = interruptions
        self._sellers = max(3, rows // 3)
        self._requests = 0
        self.payouts: list[Payout] = []
        self.calls: list[Record | Ask] = []

    def all(self) -> None:
        """Draw them."""
        stories: list[Story] = ["without id", "unknown id"] if self._rows >= _SMALL else []
        number = 0
        while len(self.payouts) < self._rows:
            number += 1
            self._draw(f"o{number}", stories.pop() if stories else self._rng.choices(_STORIES, _FREQUENCIES)[0])

    def _draw(self, order: str, story: Story) -> None:
        rng = self._rng
        refunded_at = self._moment()
        currency = rng.choice(list(_AMOUNTS))
        count = 2 if story == "late" else 1 if story in ("without id", "unknown id") else rng.choice((1, 1, 2, 3))
        payouts = [self._payout(f"{order}/{i + 1}", order, currency, story, refunded_at) for i in range(count)]
        if story == "late":
            payouts[1] = replace(payouts[1], kind="late")
        for payout in payouts:
            early = rng.random() < 0.7
            at = 0.0 if early else rng.uniform(0, refunded_at)
            if payout.kind == "late":
                at = refunded_at + rng.uniform(0.05, 1.0)
            self._call(Record(at, 0, payout), again=0.15)
        self.payouts += payouts
        if story == "kept":
            return
        if story == "parts":
            self._ask_for_parts(order, payouts, refunded_at)
        if story != "parts" or rng.random() < 0.4:
            self._ask(order, refunded_at + (rng.uniform(0, 2) if story == "parts" else 0))

    def _payout(self, key: str, order: str, currency: str, story: Story, refunded_at: float) -> Payout:
        rng = self._rng
        smallest, largest, step = _AMOUNTS[currency]
        seller = f"s{rng.randrange(self._sellers)}"
        payout = Payout(key, order, seller, f"acct_1{seller}", rng.randrange(smallest, largest, step), currency)
        if story in ("without id", "unknown id", "unsent"):
            return replace(payout, kind=story)
        fate = rng.random()
        later = refunded_at + rng.uniform(0.2, self._seconds / 2)
        if fate < 0.10:
            # Sellers with nothing else: the money that is missing here is missing nowhere else.
            own = f"poor{key.replace('/', 'x')}"
            return replace(payout, seller=own, account=f"acct_1{own}", poor_until=later)
        if fate < 0.20:
            outcome: Settled = rng.choice(("succeeded", "succeeded", "failed", "canceled"))
            return replace(payout, held=(later, outcome))
        if fate < 0.30:
            part = payout.amount if rng.random() < 0.5 else rng.randrange(step, payout.amount, step)
            return replace(payout, elsewhere=(max(0.0, refunded_at + rng.uniform(-1, 1)), part))
        return payout

    def _ask_for_parts(self, order: str, payouts: list[Payout], at: float) -> None:
        for _ in range(self._rng.randint(1, 4)):
            some = payouts if self._rng.random() < 0.3 else [self._rng.choice(payouts)]
            self._ask(order, at + self._rng.uniform(0, 3), tuple((each.key, self._part_of(each)) for each in some))

    def _part_of(self, payout: Payout) -> int:
        step = _AMOUNTS[payout.currency][2]
        return max(step, int(payout.amount * self._rng.uniform(0.02, 0.45)) // step * step)

    def _ask(self, order: str, at: float, allocation: tuple[tuple[str, int], ...] | None = None) -> None:
        self._requests += 1
        reason = self._rng.choice(("refund", "refund", "dispute"))
        lane = self._rng.randrange(LANES)
        self._call(Ask(at, lane, order, f"re_1r{self._requests}", reason, allocation), again=0.35)

    def _call(self, call: Record | Ask, again: float) -> None:
        self.calls.append(call)
        while self._rng.random() < again:
            at, lane = call.at + self._rng.uniform(0, 1.0), self._rng.randrange(LANES)
            self.calls.append(replace(call, at=at, lane=lane))

    def _moment(self) -> float:
        """A time for a refund: often just before something is interrupted."""
        if self._interruptions and self._rng.random() < 0.6:
            return max(0.0, self._rng.choice(self._interruptions) - self._rng.uniform(0, 0.3))
        return self._rng.uniform(0, self._seconds * 0.9)
