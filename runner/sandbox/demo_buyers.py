"""The demo in the part of the buyers, their banks and Stripe: charges, refunds and disputes at the simulator."""

from collections.abc import Sequence
from typing import assert_never

from runner.sandbox.demo_lives import Do, Life, Step
from runner.sandbox.demo_stripe import StripeRefused
from runner.sandbox.simulator import SimulatorClient


class Buyers:
    """Plays what happens to the charges of lives. Refunds are made by Stripe's API, as an app makes them."""

    def __init__(self, simulator: SimulatorClient) -> None:
        self._simulator = simulator
        self._charges: dict[str, str] = {}
        self._refunds: dict[str, str] = {}  # the newest of each order
        self._disputes: dict[str, str] = {}

    def pay(self, lives: Sequence[Life]) -> dict[str, str]:
        """Open the sellers' accounts and charge the buyers; gives the charges (`ch_…`) by order.

        The money of a charge that its transfers do not name is at once available for them.
        """
        for account in sorted({share.account for life in lives for share in life.shares}):
            self._simulator.create_account(account)
        for life in lives:
            self._charges[life.order_id] = self._simulator.create_charge(
                life.charged, life.currency, transfer_group=life.order_id, available=not life.names_charge
            )
        return dict(self._charges)

    def do(self, life: Life, step: Step) -> None:
        """Let one thing happen to the charge of an order."""
        order, charge = life.order_id, self._charges[life.order_id]
        match step.do:
            case Do.REFUND:
                self._refunds[order] = self._refund(charge, step.amount)
            case Do.REFUND_FAILS:
                self._simulator.settle_refund(self._refunds[order], "failed", failure_reason="expired_or_canceled_card")
            case Do.INQUIRE | Do.DISPUTE:
                inquiry = step.do is Do.INQUIRE
                self._disputes[order] = self._simulator.open_dispute(charge, step.amount, inquiry=inquiry)
            case Do.WITHDRAW:
                self._simulator.withdraw_funds(self._disputes[order])
            case Do.REINSTATE:
                self._simulator.reinstate_funds(self._disputes[order], step.amount)
            case Do.WIN:
                self._simulator.close_dispute(self._disputes[order], "won")
            case Do.LOSE:
                self._simulator.close_dispute(self._disputes[order], "lost")
            case Do.CLOSE:
                self._simulator.close_dispute(self._disputes[order], "warning_closed")
            case _:
                assert_never(step.do)

    def _refund(self, charge: str, amount: int | None) -> str:
        params = {"charge": charge, "amount": amount, "reason": "requested_by_customer"}
        answer = self._simulator.stripe("POST", "/v1/refunds", params)
        if answer.status != 200:
            raise StripeRefused(str(answer.error["message"]))
        return str(answer.json()["id"])
