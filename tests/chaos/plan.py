"""What happens in a seed, and when: drawn from random.Random(seed) and nothing else.

The same seed is the same plan. It is not the same run: which request a fault meets, and what a runner is at when it is
killed, is up to the machine.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.calls import Ask, Bill, Call, Decider, Funds, Happening, Payout, Record, Withdraw
from tests.chaos.faults import Fault, draw_faults, usual_latency
from tests.chaos.orders import Orders
from tests.chaos.times import Times

_SMALL = 20  # fewer rows than that are a short seed
# What takes a call from its runner: refunds come in shortly before, so that there are calls to take.
_INTERRUPTIONS = (
    "crash_database",
    "kill_runner",
    "pause_runner",
    "kill_webhook",
    "take_line_down",
    "cut_everything",
    "revoke_key",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will happen."""

    seed: int
    rows: int
    times: Times
    seconds: float
    refunds_by: Decider
    runners: int
    slots: int
    prunes_keys: bool
    """Stripe forgets keys as soon as it may; otherwise never."""
    latency: list[dict[str, Any]]
    bills: list[Bill]
    happenings: list[Happening]
    payouts: list[Payout]
    funds: list[Funds]
    calls: list[Call]
    faults: list[Fault]

    def lines(self) -> Iterator[str]:
        """Give the plan for a person to read."""
        yield (
            f"seed {self.seed}, {self.rows} rows, refunds by {self.refunds_by}: {self.runners} runners with"
            f" {self.slots} slots, {self.seconds:g} s of faults; lease {self.times.lease:g} s, call deadline"
            f" {self.times.call_deadline:g} s, late calls up to {self.times.late:g} s, quiet {self.times.quiet:g} s,"
            f" keys sent for {self.times.key_max_age:g} s and"
            f" {f'forgotten after {self.times.keys_kept:g} s' if self.prunes_keys else 'never forgotten'}"
        )
        for payout in self.payouts:
            fate: dict[str, object] = {"poor until": payout.poor_until, "held": payout.held}
            fate |= {"reversed elsewhere": payout.elsewhere, "late": payout.is_late or None, "charge": payout.charge}
            fate |= {"trouble": payout.trouble}
            told = "".join(f", {name} {what}" for name, what in fate.items() if what is not None)
            yield f"  {payout.key}: {payout.amount} {payout.currency} to {payout.account}, {payout.kind}{told}"
        for bill in self.bills:
            yield f"  {bill.order}: {bill.amount} {bill.currency} charged, transfer_group {bill.group}"
        happenings = [(call.at, _told(call)) for call in self.calls]
        happenings += [
            (each.at, f"{each.turn} {each.name} of {each.order} {each.amount or ''}{' pending' * each.is_pending}")
            for each in self.happenings
        ]
        happenings += [(each.at, f"the platform gets {each.amount} {each.currency}") for each in self.funds]
        happenings += [(fault.at, f"{fault.what} {fault.how or ''}") for fault in self.faults]
        for at, told in sorted(happenings):
            yield f"  {at:6.2f} s {told}"


def _told(call: Call) -> str:
    if isinstance(call, Record):
        return f"app {call.lane}: {'create' if call.payout.kind == 'sent' else 'record'} {call.payout.key}"
    if isinstance(call, Withdraw):
        return f"app {call.lane}: withdraw {call.request} of {call.order}"
    if not isinstance(call, Ask):
        return f"app {call.lane}: say that the charge is of {call.order}"
    what = "all" if call.amount is None else str(call.amount)
    if call.allocation is not None:
        what = ", ".join(f"{amount} of {key}" for key, amount in call.allocation)
    return f"app {call.lane}: {call.reason} {call.request} of {call.order}: {what}"


def make_plan(seed: int, rows: int) -> Plan:
    """Draw the plan of a seed with about so many transfers."""
    rng = random.Random(seed)
    small = rows < _SMALL
    times = Times(1.0 if small else rng.choice((1.5, 1.75, 2.0)))
    seconds = 2.5 if small else min(6 + rows * 0.15, 30)
    runners = 2 if small else rng.choice((3, 4))
    refunds_by: Decider = "events" if seed % 2 else "app"
    faults = draw_faults(rng, times, seconds, runners, small=small, by_events=refunds_by == "events")
    interruptions = [fault.at for fault in faults if fault.what in _INTERRUPTIONS]
    draw = Orders(rng, times, rows, seconds, interruptions, refunds_by)
    draw.all()
    return Plan(
        seed=seed,
        rows=rows,
        times=times,
        seconds=seconds,
        refunds_by=refunds_by,
        runners=runners,
        slots=rng.choice((2, 4, 8)),
        prunes_keys=rng.random() < 0.7,
        latency=usual_latency(rng, times),
        bills=draw.bills,
        happenings=sorted(draw.happenings, key=lambda each: each.at),
        payouts=draw.payouts,
        funds=draw.funds(),
        calls=sorted(draw.calls, key=lambda call: call.at),
        faults=sorted(faults, key=lambda fault: fault.at),
    )
