"""The demo in the part of the marketplace's app: it pays sellers, records that, and asks for money back."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from runner.sandbox.demo_lives import Life
from runner.sandbox.demo_orders import Order, Payout, Story, payouts_of
from runner.sandbox.demo_stripe import charge_buyer, open_accounts, pay_seller, prepare_trouble
from runner.sandbox.simulator import SimulatorClient

_RECORD = """
select id from marketplace.record_completed_transfer(
  p_transfer_key => %(key)s, p_order_id => %(order)s, p_seller_id => %(seller)s,
  p_destination_account => %(account)s, p_amount => %(amount)s, p_currency => %(currency)s,
  p_source_charge => %(charge)s, p_charge_amount => %(charge_amount)s,
  p_stripe_transfer_id => %(transfer)s)
"""

_CREATE = """
select id from marketplace.create_transfer(
  p_transfer_key => %(key)s, p_order_id => %(order)s, p_seller_id => %(seller)s,
  p_destination_account => %(account)s, p_amount => %(amount)s, p_currency => %(currency)s,
  p_source_charge => %(charge)s, p_charge_amount => %(charge_amount)s)
"""

_REQUEST = """
select id from marketplace.request_reversal(
  p_order_id => %s, p_reversal_request_id => %s, p_amount => %s, p_allocation => %s)
"""

_EVENTS_ASK = "select refunds_by from marketplace.set_refunds_by(p_who => 'events', p_reason => 'a demo of events')"

_NO_CHARGE = {"charge": None, "charge_amount": None}


class App:
    """A marketplace's app, with a connection of its own in autocommit and an account at Stripe."""

    def __init__(self, connection: psycopg.Connection[Any], simulator: SimulatorClient) -> None:
        self._connection = connection
        self._simulator = simulator

    def pay_sellers(self, orders: list[Order]) -> int:
        """Pay every order's sellers at Stripe and record each transfer; gives how many.

        Orders that are refunded before anybody is paid are announced by `refund`.
        """
        paid = [order for order in orders if order.story is not Story.NEVER_SENT]
        open_accounts(self._simulator, paid)
        transfers: dict[Payout, str] = {}
        for order in paid:
            charge = charge_buyer(self._simulator, order)
            for payout in order.payouts:
                transfers[payout] = pay_seller(self._simulator, order, payout, charge)
                charged = {"charge": charge, "charge_amount": order.paid_by_buyer if charge else None}
                transfer = _as_recorded(payout, transfers[payout])
                self._connection.execute(_RECORD, {**_values(order, payout), **charged, "transfer": transfer})
        prepare_trouble(self._simulator, transfers)
        return len(transfers)

    def refund(self, order: Order) -> None:
        """Ask for the order's money back: all of it, but for the stories that tell of a part."""
        # In one transaction, or a runner might send what is announced.
        with self._connection.transaction():
            if order.story is Story.NEVER_SENT:
                for payout in order.payouts:
                    self._connection.execute(_CREATE, {**_values(order, payout), **_NO_CHARGE})
            if order.story is Story.PART_OF_ONE:
                for number in (1, 2):
                    part = [{"transfer_key": order.payouts[0].key, "amount": order.third_of_first}]
                    self._connection.execute(_REQUEST, [order.id, f"{order.refund}Part{number}", None, Jsonb(part)])
                return
            amount = order.half if order.story is Story.PART_OF_ORDER else None
            for _ in range(2 if order.story is Story.REFUNDED_TWICE else 1):
                self._connection.execute(_REQUEST, [order.id, order.refund, amount, None])

    def leave_refunds_to_events(self) -> None:
        """Have Stripe's events ask for the sellers' shares from now on, in the app's place."""
        self._connection.execute(_EVENTS_ASK)

    def create_transfers(self, lives: Sequence[Life], charges: Mapping[str, str]) -> int:
        """Announce what the sellers of these orders are to get, for the runners to send; gives how many transfers.

        `charges` has the charge of each order.
        """
        for life in lives:
            charged = {"charge": charges[life.order_id], "charge_amount": life.charged}
            for share in life.shares:
                who = {"key": share.key, "order": life.order_id, "seller": share.seller, "account": share.account}
                money = {"amount": share.amount, "currency": life.currency}
                self._connection.execute(_CREATE, {**who, **money, **(charged if life.names_charge else _NO_CHARGE)})
        return sum(len(life.shares) for life in lives)


def poor_sellers(orders: list[Order]) -> list[Payout]:
    """The payouts whose seller has spent the money."""
    return [payout for payout in payouts_of(orders) if payout.story is Story.TOO_POOR]


def _values(order: Order, payout: Payout) -> dict[str, object]:
    return {
        "key": payout.key,
        "order": order.id,
        "seller": payout.seller,
        "account": payout.account,
        "amount": payout.amount,
        "currency": payout.currency,
    }


def _as_recorded(payout: Payout, transfer: str) -> str | None:
    """The id as it gets into the database: as it is, but for an app with a past."""
    if payout.story is Story.NO_ID:
        return None
    if payout.story is Story.UNKNOWN_ID:
        return f"tr_1Mistyped{transfer[-12:]}"
    return transfer
