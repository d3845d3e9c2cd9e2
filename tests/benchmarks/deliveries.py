"""What Stripe delivers to a marketplace on a busy day, and the orders it is about.

Of twenty deliveries eight are of types that nothing is done about, seven tell of a charge (two of them nothing new),
one of a transfer, one of a charge that was refunded, one of a refund that is pending and one of a refund that has
succeeded, of which the seller's share is asked; and one has come before.
"""

from itertools import count
from typing import Any

from tests.benchmarks.setting import say
from tests.support.databases import Database, rows
from tests.support.events import by_events
from tests.support.webhooks import encoded, event

_CYCLE = 20
_HISTORY = 50_000
# Together 3 kB, as much as Stripe says of a charge.
_NOISE = {f"field_{n}": f"some text of a length that is usual {n}" for n in range(40)}


def prepare(db: Database, deliveries: int) -> int:
    """Have orders paid for as many deliveries, and years of events; gives the number of orders."""
    orders = deliveries // _CYCLE + 1
    by_events(db)
    db.execute(
        """
        insert into marketplace.stripe_events (event_id, type, state, payload)
        select 'evt_old' || n, 'customer.updated', 'ignored', '{}' from generate_series(1, %s) as n
        """,
        [_HISTORY],
    )
    rows(
        db,
        """
        select t.id from generate_series(1, %(orders)s) as n
        cross join lateral marketplace.record_completed_transfer(
          'key-' || n, 'order-' || n, 'seller-' || n %% 1000, 'acct_' || n %% 1000, 9000, 'usd', 'ch_' || n, 10000,
          'tr_' || n) as t
        """,
        orders=orders,
    )
    db.execute("vacuum analyze")  # autovacuum would have, by the time there is so much
    return orders


class Deliveries:
    """Ids of events and bodies, one after the other: `given` so many, of which those in `taken` were answered 200."""

    def __init__(self, orders: int) -> None:
        self._orders = orders
        self._numbers = count()
        self._again = "", b""
        self.given = 0
        self.taken: set[str] = set()

    def next(self) -> tuple[str, bytes]:
        """The next one to deliver."""
        number = next(self._numbers)
        self.given = number + 1
        place = number % _CYCLE
        if place == _CYCLE - 1:
            return self._again
        order = number // _CYCLE % self._orders + 1
        event_type, told = _told(place, number, order)
        told_of = event(f"evt_{number}", event_type=event_type, data={"object": {**told, **_NOISE}})
        delivery = f"evt_{number}", encoded(told_of)
        if place == number // _CYCLE % (_CYCLE - 1):  # of every sort in turn
            self._again = delivery
        return delivery


def _told(place: int, number: int, order: int) -> tuple[str, dict[str, Any]]:
    """Type and object of the delivery at this place of the cycle."""
    if place % 5 in (0, 2):  # 8 of 20
        return "customer.updated", {"id": f"cus_{number}", "object": "customer"}
    if place in (1, 3, 4, 6, 8):
        return "charge.succeeded", _charge(f"ch_new{number}")
    if place == 9:
        return "charge.updated", _charge(f"ch_new{number - 1}")
    if place == 11:
        return "charge.succeeded", _charge(f"ch_{order}")
    if place == 13:
        return "transfer.created", {"id": f"tr_{order}", "object": "transfer", "amount": 9000, "metadata": {}}
    if place in (14, 16):
        return "refund.updated", _refund(order, "pending" if place == 14 else "succeeded")
    return "charge.refunded", {**_charge(f"ch_{order}"), "amount_refunded": 5000}


def _charge(charge_id: str) -> dict[str, Any]:
    return {
        "id": charge_id,
        "object": "charge",
        "amount": 10000,
        "amount_captured": 10000,
        "amount_refunded": 0,
        "captured": True,
        "currency": "usd",
        "payment_intent": f"pi_{charge_id}",
        "status": "succeeded",
    }


def _refund(order: int, status: str) -> dict[str, Any]:
    return {
        "id": f"re_{order}",
        "object": "refund",
        "amount": 5000,
        "charge": f"ch_{order}",
        "currency": "usd",
        "payment_intent": f"pi_ch_{order}",
        "status": status,
    }


def say_what_they_came_to(db: Database) -> None:
    """Print how many of the new events were acted on, ignored and kept, and what was asked of sellers."""
    found = rows(
        db,
        """
        select e.state, count(*) as events from marketplace.stripe_events as e
        where e.event_id not like 'evt\\_old%%' group by e.state order by e.state
        """,
    )
    words = ", ".join(f"{each['events']} {each['state']}" for each in found)
    (asked,) = rows(db, "select count(*) as requests from marketplace.reversal_requests")
    say("  sellers' shares asked for", asked["requests"], "refunds", words)
