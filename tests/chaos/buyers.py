"""The buyers of a seed and their banks: refunds and disputes at Stripe, and what stands of them."""

from collections.abc import Callable, Iterator
from functools import partial

from runner.sandbox.simulator import ControlRefused, SimulatorClient
from tests.chaos.calls import Cause, Happening


class Buyers:
    """Makes happen what becomes of bills. `charges`: Stripe's charge by the order."""

    def __init__(self, simulator: SimulatorClient, charges: dict[str, str]) -> None:
        self._simulator = simulator
        self._charges = charges
        self.ids: dict[str, str] = {}
        """Stripe's by the names of the plan."""
        self.causes: dict[str, Cause] = {}
        """What took money of a charge, by Stripe's id; also what gave it back since."""

    def deeds(self, happenings: list[Happening]) -> Iterator[tuple[float, Callable[[], bool]]]:
        """Give what is to be done and when; each says whether it is."""
        for happening in happenings:
            yield happening.at, partial(self._do, happening)

    def _do(self, what: Happening) -> bool:
        """What Stripe refuses is not done: a charge has only so much, and none while its dispute is undecided."""
        try:
            if what.turn in ("refund", "dispute"):
                self._begin(what)
            elif what.name in self.ids:
                self._go_on(what, self.ids[what.name])
        except ControlRefused:
            pass
        return True

    def _begin(self, what: Happening) -> None:
        charge = self._charges[what.order]
        if what.turn == "dispute":
            self.ids[what.name] = self._simulator.open_dispute(charge, what.amount)
            return
        refund = self._simulator.refund(charge, what.amount, status="pending" if what.is_pending else "succeeded")
        self.ids[what.name] = refund
        (made,) = (entry for entry in self._simulator.ledger(kind="refund") if entry.refund == refund)
        self.causes[refund] = Cause(what.order, made.amount, not what.is_pending)

    def _go_on(self, what: Happening, its_id: str) -> None:
        match what.turn:
            case "succeed":
                self._simulator.settle_refund(its_id, "succeeded")
                self.causes[its_id].stands = True
            case "fail":
                self._simulator.settle_refund(its_id, "failed")
                self.causes[its_id].stands = False
            case "take":
                self._simulator.withdraw_funds(its_id)
                (taken,) = (entry for entry in self._simulator.ledger(kind="dispute") if entry.dispute == its_id)
                self.causes[its_id] = Cause(what.order, taken.amount, stands=True)
            case "win" | "lose":
                self._simulator.close_dispute(its_id, "won" if what.turn == "win" else "lost")
                self.causes[its_id].stands &= what.turn == "lose"
            case "return":
                self._simulator.reinstate_funds(its_id)
                self.causes[its_id].stands = False
            case "return a part":
                self._simulator.reinstate_funds(its_id, what.amount)
                self.causes[its_id].came_back = what.amount or 0
