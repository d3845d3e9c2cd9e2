"""Orders whose sellers have been paid at the simulated Stripe, as the app of a marketplace would leave them.

All about an order has its name in it: `order-blue` has one transfer, `key-blue`, to `seller-blue` at `acct_blue`,
and its refund is `re_blue`. A name is letters and digits.
"""

from collections.abc import Mapping, Sequence

from psycopg.rows import DictRow

from runner.sandbox.simulator import LedgerEntry, LoggedRequest, SimulatorClient
from tests.support.databases import Database, row, rows, value


def pay_sellers(
    db: Database, stripe: SimulatorClient, *names: str, amount: int = 1000, currency: str = "usd"
) -> list[str]:
    """Make one transfer per name at Stripe and record it; gives Stripe's ids in the order of the names."""
    made = stripe.create_transfers(
        [{"destination": f"acct_{name}", "amount": amount, "currency": currency} for name in names]
    )
    record_paid(db, names, made, amount=amount, currency=currency)
    return made


def record_paid(
    db: Database, names: Sequence[str], transfers: Sequence[str], *, amount: int = 1000, currency: str = "usd"
) -> None:
    """Record that these transfers were made, whatever Stripe knows of them."""
    rows(
        db,
        """
        select t.id from unnest(%(names)s::text[], %(transfers)s::text[]) as n (name, stripe_id)
        cross join lateral marketplace.record_completed_transfer(
          'key-' || n.name, 'order-' || n.name, 'seller-' || n.name, 'acct_' || n.name, %(amount)s, %(currency)s,
          p_stripe_transfer_id => n.stripe_id) as t
        """,
        names=list(names),
        transfers=list(transfers),
        amount=amount,
        currency=currency,
    )


def order_payouts(
    db: Database,
    stripe: SimulatorClient,
    *names: str,
    amount: int = 1000,
    currency: str = "usd",
    charges: Mapping[str, str] | None = None,
) -> None:
    """Create one transfer per name, to be sent; `charges`: of some names, what they are to be paid from."""
    for name in names:
        stripe.create_account(f"acct_{name}")
    rows(
        db,
        """
        select t.id from unnest(%(names)s::text[], %(charges)s::text[]) as n (name, charge)
        cross join lateral marketplace.create_transfer(
          'key-' || n.name, 'order-' || n.name, 'seller-' || n.name, 'acct_' || n.name, %(amount)s, %(currency)s,
          p_source_charge => n.charge) as t
        """,
        names=list(names),
        charges=[(charges or {}).get(name) for name in names],
        amount=amount,
        currency=currency,
    )


def refund(db: Database, *names: str) -> None:
    """Ask for the money of these orders back, all in one transaction."""
    rows(
        db,
        """
        select r.id from unnest(%(names)s::text[]) as n (name)
        cross join lateral marketplace.request_reversal('order-' || n.name, 're_' || n.name) as r
        """,
        names=list(names),
    )


def refunded(db: Database, stripe: SimulatorClient, *names: str) -> None:
    """Pay these sellers and ask for the money back."""
    pay_sellers(db, stripe, *names)
    refund(db, *names)


def transfer_of(db: Database, name: str) -> DictRow:
    """The order's row."""
    return row(db, "select * from marketplace.seller_transfers where order_id = %(order)s", order=f"order-{name}")


def attempts_of(db: Database, name: str) -> list[DictRow]:
    """What was tried for the order's row, oldest first."""
    return rows(
        db,
        """
        select a.* from marketplace.transfer_attempts as a
        inner join marketplace.seller_transfers as t on t.id = a.transfer_id
        where t.order_id = %(order)s order by a.id
        """,
        order=f"order-{name}",
    )


def statuses(db: Database, *names: str) -> list[str]:
    """Where these orders' rows stand, in the order of the names."""
    return [transfer_of(db, name)["status"] for name in names]


def open_rows(db: Database, *, parked: bool = True) -> int:
    """How many rows are not at their end yet; without those that are parked, if told so."""
    return int(
        value(
            db,
            "select count(*) from marketplace.seller_transfers"
            " where status in ('pending', 'failed', 'reversal_pending') and (%(parked)s or parked_reason is null)",
            parked=parked,
        )
    )


def calls_for(stripe: SimulatorClient, transfer: str) -> list[LoggedRequest]:
    """What came in at Stripe to reverse this transfer, oldest first."""
    return stripe.requests(method="POST", path=f"/v1/transfers/{transfer}/reversals")


def reversals_of(stripe: SimulatorClient, transfer: str) -> list[LedgerEntry]:
    """What was taken back of this transfer, by whomever."""
    return [entry for entry in stripe.ledger(kind="reversal") if entry.transfer == transfer]


def sends_to(stripe: SimulatorClient, name: str) -> list[LoggedRequest]:
    """What came in at Stripe to pay the order's seller, oldest first."""
    sends = stripe.requests(method="POST", path="/v1/transfers")
    return [each for each in sends if each.params.get("destination") == f"acct_{name}"]


def payments_to(stripe: SimulatorClient, name: str) -> list[LedgerEntry]:
    """What the order's seller was paid, by whomever."""
    return [entry for entry in stripe.ledger(kind="transfer") if entry.destination == f"acct_{name}"]


def set_delays(db: Database, verdict: str, base: str, *, factor: float = 1, longest: str = "1 h") -> None:
    """Have a verdict's retries follow after `base`, each `factor` times later, without jitter."""
    changed = db.execute(
        """
        update marketplace.retry_policy set base_delay = %s, factor = %s, max_delay = %s, jitter = 0 where verdict = %s
        """,
        [base, factor, longest, verdict],
    )
    assert changed.rowcount == 1, f"no policy for {verdict}"
