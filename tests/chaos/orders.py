"""The orders of a seed: their transfers, what befalls them, and what the app does about them and when."""

import random
from dataclasses import replace
from typing import Any, Literal

from tests.chaos.calls import (
    LANES,
    Ask,
    Bill,
    Call,
    Charge,
    Decider,
    Explain,
    Funds,
    Happening,
    Payout,
    Record,
    Settled,
    Turn,
    Withdraw,
)
from tests.chaos.faults import draw_trouble
from tests.chaos.times import Times

Story = Literal["all", "parts", "late", "kept", "without id", "unknown id"]
"""What is asked of an order: all, parts, or nothing; or what is special about its transfers."""

_STORIES: tuple[Story, ...] = ("all", "parts", "late", "kept")
_FREQUENCIES = (9, 9, 3, 2)
_CHARGES: tuple[Charge | None, ...] = (None, None, "with group", "without group")

_SMALL = 20  # fewer rows than that have nothing special among them

# Smallest amount, largest and step, in minor units. Stripe wants the last digit of three-decimal currencies to be 0.
_AMOUNTS = {"usd": (50, 25_000, 1), "eur": (50, 25_000, 1), "jpy": (50, 30_000, 1), "kwd": (1_000, 80_000, 10)}


class Orders:
    """Draws the orders, and what the app does about them."""

    def __init__(
        self,
        rng: random.Random,
        times: Times,
        rows: int,
        seconds: float,
        interruptions: list[float],
        refunds_by: Decider = "app",
    ) -> None:
        self._rng = rng
        self._times = times
        self._rows = rows
        self._seconds = seconds
        self._interruptions = interruptions
        self._refunds_by = refunds_by
        self._sellers = max(3, rows // 3)
        self._requests = 0
        self.payouts: list[Payout] = []
        self.calls: list[Call] = []
        self.bills: list[Bill] = []
        self.happenings: list[Happening] = []

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
            payouts[1] = replace(payouts[1], is_late=True)
        for payout in payouts:
            self._call(Record(self._birth(payout, refunded_at), 0, payout), again=0.15)
        self.payouts += payouts
        if self._refunds_by == "events":
            self._bill(order, payouts, refunded_at)
        if story == "kept":
            return
        if self._refunds_by == "events":
            self._give_back(order, story, refunded_at)
            return
        if story == "parts":
            self._ask_for_parts(order, payouts, refunded_at)
        if story != "parts" or rng.random() < 0.4:
            self._ask(order, refunded_at + (rng.uniform(0, 2) if story == "parts" else 0))

    def _birth(self, payout: Payout, refunded_at: float) -> float:
        """When a transfer is recorded or created; one that is sent often just before its order is refunded."""
        rng = self._rng
        if payout.is_late:
            return refunded_at + rng.uniform(0.05, 1.0)
        if payout.kind == "sent" and rng.random() < 0.5:
            return max(0.0, refunded_at - rng.uniform(0, 0.5))
        return 0.0 if rng.random() < 0.7 else rng.uniform(0, refunded_at)

    def _payout(self, key: str, order: str, currency: str, story: Story, refunded_at: float) -> Payout:
        rng = self._rng
        smallest, largest, step = _AMOUNTS[currency]
        seller = f"s{rng.randrange(self._sellers)}"
        payout = Payout(key, order, seller, f"acct_1{seller}", rng.randrange(smallest, largest, step), currency)
        if story in ("without id", "unknown id"):
            return replace(payout, kind=story)
        if self._refunds_by == "events" and rng.random() < 0.5:
            payout = replace(payout, charge=rng.choice(_CHARGES))
        if rng.random() < 0.6:
            trouble = draw_trouble(rng, self._times) if rng.random() < 0.5 else None
            charge = payout.charge if self._refunds_by == "events" else rng.choice(_CHARGES)
            payout = replace(payout, kind="sent", charge=charge, trouble=trouble)
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
            when = at + self._rng.uniform(0, 3)
            if self._rng.random() < 0.35:
                whole = sum(each.amount for each in payouts)
                self._ask(order, when, amount=self._part_of(whole, payouts[0].currency))
                continue
            some = payouts if self._rng.random() < 0.3 else [self._rng.choice(payouts)]
            parts = tuple((each.key, self._part_of(each.amount, each.currency)) for each in some)
            self._ask(order, when, allocation=parts)

    def _part_of(self, amount: int, currency: str) -> int:
        step = _AMOUNTS[currency][2]
        return max(step, int(amount * self._rng.uniform(0.02, 0.45)) // step * step)

    def _ask(self, order: str, at: float, **what: Any) -> None:
        self._requests += 1
        reason = self._rng.choice(("refund", "refund", "dispute"))
        lane = self._rng.randrange(LANES)
        request = f"re_1r{self._requests}"
        self._call(Ask(at, lane, order, request, reason, **what), again=0.35)
        if self._rng.random() < 0.4:
            # Before it, while its calls are under way, or when they are done.
            after = self._rng.choice((self._rng.uniform(-0.5, 0), self._rng.uniform(0, 0.5), self._while()))
            self._call(Withdraw(max(0.0, at + after), self._rng.randrange(LANES), order, request), again=0.35)

    def _bill(self, order: str, payouts: list[Payout], refunded_at: float) -> None:
        """What the buyer paid. That it is of this order Stripe knows, or the transfers name it, or the app says so."""
        rng, currency = self._rng, payouts[0].currency
        whole = sum(each.amount for each in payouts)
        # Stripe refuses transfers that name a charge and are more than it; of more than one try for one, too.
        named = any(each.charge for each in payouts)
        amount = 3 * whole if named else whole + rng.randrange(0, whole, _AMOUNTS[currency][2])
        group = rng.choice((order, order, f"basket {order}", None))
        self.bills.append(Bill(order, amount, currency, group))
        if group != order and not all(each.charge for each in payouts):
            self._call(Explain(rng.uniform(0, refunded_at + 2), rng.randrange(LANES), order), again=0.15)

    def _give_back(self, order: str, story: Story, at: float) -> None:
        """The buyer gets money back, in whole or in parts, or has the bank take it; often not for good."""
        rng, bill = self._rng, self.bills[-1]
        if rng.random() < 0.25:
            part = self._part_of(bill.amount, bill.currency)
            self._dispute(order, at, None if story == "all" else part, self._part_of(part, bill.currency))
            if rng.random() < 0.6:
                return
            at += rng.uniform(0, 1)
        for _ in range(rng.randint(1, 4) if story == "parts" else rng.choice((0, 0, 1))):
            self._refund(order, at + rng.uniform(0, 3), self._part_of(bill.amount, bill.currency))
        if story != "parts" or rng.random() < 0.3:
            self._refund(order, at + rng.uniform(0, 1), None)

    def _refund(self, order: str, at: float, amount: int | None) -> None:
        rng = self._rng
        name = self._name("refund")
        is_pending = rng.random() < 0.3
        self.happenings.append(Happening(at, order, name, "refund", amount, is_pending))
        if is_pending:
            at += rng.uniform(0.05, 1.0)
            self.happenings.append(Happening(at, order, name, "succeed"))
        if rng.random() < 0.35:
            self.happenings.append(Happening(at + self._while(), order, name, "fail"))
        self._spare(order, at, name)

    def _dispute(self, order: str, at: float, amount: int | None, part: int) -> None:
        rng = self._rng
        name = self._name("dispute")
        turns: tuple[Turn, ...] = ("dispute", "take")
        ends: tuple[tuple[Turn, ...], ...] = (("lose",), ("win", "return"), ("return", "win"), ("win",), ())
        turns += rng.choice((*ends, ("lose", "return"), ("lose", "return a part"), ("return a part", "lose")))
        self._spare(order, at, name)
        for turn in turns:
            self.happenings.append(Happening(at, order, name, turn, part if turn == "return a part" else amount))
            at += rng.uniform(0, 0.5) if turn == "dispute" else self._while()

    def _spare(self, order: str, at: float, name: str) -> None:
        """Now and then a person says that the sellers need not pay for it."""
        if self._rng.random() < 0.12:
            self._call(Withdraw(at + self._while(), self._rng.randrange(LANES), order, name), again=0.35)

    def _name(self, what: str) -> str:
        self._requests += 1
        return f"{what} {self._requests}"

    def _while(self) -> float:
        """How long something stands: often too short for the sellers' share to be back."""
        return self._rng.uniform(0, 0.4) if self._rng.random() < 0.5 else self._rng.uniform(0.4, self._seconds / 3)

    def funds(self) -> list[Funds]:
        """Draw when the platform has the money for what it is to send: some at once, in the end more than is needed."""
        drawn = []
        for currency in _AMOUNTS:
            here = [each for each in self.payouts if each.currency == currency]
            needed = sum(each.amount for each in here if each.kind == "sent" and each.charge is None)
            if here:
                at_once = int(needed * self._rng.uniform(0.3, 1.2))
                # A second transfer for one would not fail for want of it, nor would what is paid again.
                most = 3 * sum(each.amount for each in here)
                drawn += [Funds(0.0, at_once, currency)] if at_once else []
                drawn.append(Funds(self._rng.uniform(1, self._seconds * 0.8), most, currency))
        return drawn

    def _call(self, call: Call, again: float) -> None:
        self.calls.append(call)
        while self._rng.random() < again:
            at, lane = call.at + self._rng.uniform(0, 1.0), self._rng.randrange(LANES)
            self.calls.append(replace(call, at=at, lane=lane))

    def _moment(self) -> float:
        """A time for a refund: often just before something is interrupted."""
        if self._interruptions and self._rng.random() < 0.6:
            return max(0.0, self._rng.choice(self._interruptions) - self._rng.uniform(0, 0.3))
        return self._rng.uniform(0, self._seconds * 0.9)
