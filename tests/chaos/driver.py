"""Makes the faults of a plan happen, and undoes them all at the end."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import ControlRefused, LedgerEntry, SimulatorClient
from tests.chaos.buyers import Buyers
from tests.chaos.calls import Funds, Payout
from tests.chaos.crew import Crew
from tests.chaos.faults import OURS, Fault, Rule
from tests.chaos.inbox import Inbox
from tests.chaos.plan import Plan
from tests.support.cutting_proxy import CuttingProxy
from tests.support.runners import wait_until

# What the people with a Dashboard use: revoking the runners' key takes nothing from them.
_DASHBOARD_KEY = "sk_test_dashboard"

_TICK_SECONDS = 0.02


@dataclass(slots=True)
class Driver:
    """Hands on everything that can be broken. To be used in the main thread, which is who processes belong to."""

    plan: Plan
    server: EmbeddedPostgres
    simulator: SimulatorClient
    line: CuttingProxy
    crew: Crew
    buyers: Buyers
    inbox: Inbox | None
    restarts: int = 0
    actions: dict[int, str] = field(default_factory=dict)
    """What each rule of the simulator's fault script did, also those that are gone."""
    _begun: float = 0.0
    _deeds: list[tuple[float, Callable[[], bool]]] = field(default_factory=list)
    _held: dict[str, LedgerEntry] = field(default_factory=dict)
    _made: dict[str, str] = field(default_factory=dict)
    _read: int = 0

    def play(self) -> None:
        """Let the plan happen, in its time."""
        self._begun = time.monotonic()
        self._deeds = sorted(self._planned_deeds(), key=lambda deed: deed[0])
        faults = list(self.plan.faults)
        while self._elapsed() < self.plan.seconds or faults:
            while faults and faults[0].at <= self._elapsed():
                self._do(faults.pop(0))
            self._tend()
            time.sleep(_TICK_SECONDS)

    def calm(self) -> None:
        """Have nothing go wrong any more: all that was broken works, and what the plan put off is done."""
        self.simulator.clear_faults()
        self.simulator.release()
        self.simulator.run_late()
        self.simulator.set_limits(None)
        self.simulator.restore_key()
        self.line.bring_up()
        self.crew.wait_until_awake()
        self.crew.wait_until_at_work(self.server.dsn())
        wait_until(lambda: not self.simulator.held() and not self.simulator.late_requests(), "Stripe holds nothing")
        self._begun = -math.inf  # whatever is planned is due
        wait_until(self._no_deeds_left, "everybody has money, and Stripe has settled what it held")

    def watch(self, done: Callable[[], bool], within_seconds: float) -> float:
        """Keep the world going until `done`; gives how long that took, at most about `within_seconds`."""
        begun = time.monotonic()
        while not done() and time.monotonic() - begun < within_seconds:
            self._tend()
            time.sleep(_TICK_SECONDS)
        return time.monotonic() - begun

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _tend(self) -> None:
        self.crew.tend()
        if self.inbox is not None:
            self.inbox.tend()
        if self.plan.prunes_keys:
            self.simulator.forget_idempotency_keys(older_than_seconds=self.plan.times.keys_kept)
        self._read_ledger()
        self._deeds = [(at, deed) for at, deed in self._deeds if at > self._elapsed() or not deed()]
        self._settle_held()

    def _no_deeds_left(self) -> bool:
        self._tend()
        return not self._deeds

    def _do(self, fault: Fault) -> None:
        how = fault.how
        match fault.what:
            case "crash_database":
                self.server.restart(immediate=True)
                self.restarts += 1
            case "kill_runner":
                self.crew.kill(how["runner"], new_name=how["new_name"])
            case "end_runner":
                self.crew.end(how["runner"], new_name=how["new_name"])
            case "kill_webhook":
                if self.inbox is not None:
                    self.inbox.end(at_once=how["at_once"])
            case "pause_runner":
                self.crew.pause(how["runner"], how["seconds"])
            case "cut":
                self.line.cut(how["statement"], how["moment"])
            case "cut_everything":
                self.line.cut_everything()
            case "take_line_down":
                self.line.take_down()
            case "bring_line_up":
                self.line.bring_up()
            case "revoke_key":
                self.simulator.revoke_key()
            case "restore_key":
                self.simulator.restore_key()
            case "limit_rate":
                self.simulator.set_limits(how["requests_per_second"], burst=5)
            case "lift_rate_limit":
                self.simulator.set_limits(None)
            case "misbehave":
                self._add_rules([how])
            case "let_go":
                self.simulator.release()
                self.simulator.run_late()
            case _:
                raise AssertionError(f"nobody knows how to {fault.what}")

    def _add_rules(self, rules: list[Rule]) -> None:
        numbers = self.simulator.add_faults(rules)
        self.actions |= {number: str(rule["action"]) for number, rule in zip(numbers, rules, strict=True)}

    def prepare(self) -> None:
        """Set Stripe up: what the sellers have, which reversals it will hold, how long it takes."""
        self.simulator.set_key(_DASHBOARD_KEY, livemode=False)
        match: Rule
        for payout in self.plan.payouts:
            if payout.kind == "sent":
                self.simulator.create_account(payout.account)
            if payout.trouble is not None:
                match = {"method": "POST", "path": "^/v1/transfers$", "metadata": {"transfer_key": payout.key}}
                self._add_rules([{**payout.trouble, "match": match}])
            if payout.poor_until is not None:
                self.simulator.fund(-payout.amount, payout.currency, account=payout.account)
            if payout.held is not None:
                match = {"method": "POST", "path": "/reversals$", "idempotency_key": OURS}
                match["metadata"] = {"transfer_key": payout.key}
                self._add_rules([{"action": "pending_reversal", "match": match}])
        self._add_rules(self.plan.latency)

    def _planned_deeds(self) -> Iterator[tuple[float, Callable[[], bool]]]:
        """What others than the product do at Stripe: when, and how; one that could not be done is tried again."""
        for payout in self.plan.payouts:
            if payout.poor_until is not None:
                yield payout.poor_until, partial(self._fund, payout)
            if payout.elsewhere is not None:
                yield payout.elsewhere[0], partial(self._reverse_elsewhere, payout)
        for funds in self.plan.funds:
            yield funds.at, partial(self._fund_platform, funds)
        yield from self.buyers.deeds(self.plan.happenings)

    def _fund(self, payout: Payout) -> bool:
        self.simulator.fund(payout.amount, payout.currency, account=payout.account)
        return True

    def _fund_platform(self, funds: Funds) -> bool:
        self.simulator.fund(funds.amount, funds.currency)
        return True

    def _reverse_elsewhere(self, payout: Payout) -> bool:
        assert payout.elsewhere is not None
        if payout.key not in self._made:
            return True
        answer = self.simulator.stripe(
            "POST",
            f"/v1/transfers/{self._made[payout.key]}/reversals",
            {"amount": payout.elsewhere[1]},
            api_key=_DASHBOARD_KEY,
        )
        return answer.status != 429

    def _read_ledger(self) -> None:
        for entry in self.simulator.ledger(since=self._read):
            self._read = entry.seq
            if entry.kind == "transfer":
                self._made[entry.metadata["transfer_key"]] = str(entry.transfer)
            elif entry.reversal is not None:
                if entry.status == "pending":
                    self._held[entry.reversal] = entry
                else:
                    self._held.pop(entry.reversal, None)

    def _settle_held(self) -> None:
        """Let Stripe settle what it has held for as long as the plan says."""
        wanted = {
            payout.key: payout.held[1]
            for payout in self.plan.payouts
            if payout.held is not None and payout.held[0] <= self._elapsed()
        }
        for reversal, entry in list(self._held.items()):
            key = entry.metadata["transfer_key"]
            if key in wanted:
                with suppress(ControlRefused):  # the seller has not got the money: later
                    self.simulator.settle_reversal(reversal, wanted[key])
