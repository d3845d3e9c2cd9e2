"""What became of the orders whose whole life the demo shows: as planned, by Stripe's ledger, by the database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from runner.sandbox.demo_ledger import Row
from runner.sandbox.demo_lives import Life, keeps_by_seller
from runner.sandbox.simulator import LedgerEntry
from runner.status import money

Kept = Mapping[tuple[str, str], int]
"""What the database has paid and not taken back, in minor units, by order and account."""


@dataclass(slots=True)
class Moved:
    """The money of one order by the ledger, in minor units; `sent` to accounts and taken `back` from them."""

    sent: Counter[str] = field(default_factory=Counter)
    back: Counter[str] = field(default_factory=Counter)
    to_buyer: int = 0

    def keeps(self, account: str) -> int:
        """What an account was sent and not asked back."""
        return self.sent[account] - self.back[account]


def read_moved(entries: Sequence[LedgerEntry], charges: Mapping[str, str]) -> dict[str, Moved]:
    """Add up the ledger by order; `charges` has the charge of each.

    A transfer is the order's that its metadata names. Other orders' money is left out.
    """
    moved: dict[str, Moved] = {order: Moved() for order in charges}
    order_of = {charge: order for order, charge in charges.items()}
    for entry in entries:
        if entry.kind == "transfer" and entry.transfer is not None and entry.metadata.get("order_id") in moved:
            order_of[entry.transfer] = entry.metadata["order_id"]
            moved[order_of[entry.transfer]].sent[entry.credit] += entry.moved
        elif entry.kind in ("reversal", "reversal_status") and entry.transfer in order_of:
            moved[order_of[entry.transfer]].back[entry.debit] += entry.moved
        elif entry.kind in ("refund", "dispute") and entry.charge in order_of:
            moved[order_of[entry.charge]].to_buyer += entry.moved
        elif entry.kind in ("refund_status", "reinstatement") and entry.charge in order_of:
            moved[order_of[entry.charge]].to_buyer -= entry.moved
    return moved


def read_kept(rows: Sequence[Row]) -> Kept:
    """Add up the rows by order and account."""
    kept: Counter[tuple[str, str]] = Counter()
    for row in rows:
        kept[row.order_id, row.destination_account] += row.amount * (row.is_paid - row.is_reversed)
    return kept


def find_life_differences(lives: Sequence[Life], moved: Mapping[str, Moved], kept: Kept) -> list[str]:
    """Give every disagreement of plan, ledger and database as a sentence; none if they agree."""
    found = []
    for life in lives:
        planned = {share.account: share.keeps for share in life.shares}
        by_ledger = moved[life.order_id]
        known = {account for order, account in kept if order == life.order_id}
        for account in sorted(planned.keys() | by_ledger.sent.keys() | known):
            three = (planned.get(account, 0), by_ledger.keeps(account), kept.get((life.order_id, account), 0))
            if len(set(three)) > 1:
                found.append(
                    f"{life.order_id} ({life.told}): {account} should keep {three[0]} {life.currency},"
                    f" by the ledger it keeps {three[1]}, by the database {three[2]}"
                )
    return found


def lives_table(lives: Sequence[Life], moved: Mapping[str, Moved], kept: Kept, exponents: Mapping[str, int]) -> Table:
    """Tell each order in a line; `exponents` says how many decimals a currency has."""
    table = _table("What became of the orders with whole lives")
    table.caption = "What was sent includes what was paid again."
    table.add_column("order")
    table.add_column("")
    for heading in ("buyer\npaid", "got\nback", "sellers\nsent", "taken\nback", "they\nkeep"):
        table.add_column(heading, justify="right")
    table.add_column("agree")
    for life in lives:
        its = moved[life.order_id]
        sent, back = its.sent.total(), its.back.total()
        amounts = (life.charged, its.to_buyer, sent, back, sent - back)
        shown = [money(amount, exponents[life.currency]) for amount in amounts]
        agrees = not find_life_differences([life], moved, kept)
        table.add_row(life.told, life.currency, *shown, "yes" if agrees else "NO")
    return table


def sellers_table(lives: Sequence[Life], moved: Mapping[str, Moved], kept: Kept, exponents: Mapping[str, int]) -> Table:
    """Tell what each seller keeps in each currency."""
    ledger: Counter[tuple[str, str]] = Counter()
    database: Counter[tuple[str, str]] = Counter()
    currency_of = {life.order_id: life.currency for life in lives}
    for order, currency in currency_of.items():
        for account in moved[order].sent:
            ledger[account, currency] += moved[order].keeps(account)
    for (order, account), amount in kept.items():
        if order in currency_of:
            database[account, currency_of[order]] += amount
    table = _table("What each seller keeps of these")
    table.add_column("seller")
    table.add_column("")
    for heading in ("planned", "database", "ledger"):
        table.add_column(heading, justify="right")
    table.add_column("agree")
    names = {share.account: share.seller for life in lives for share in life.shares}
    planned = keeps_by_seller(lives)
    for account, currency in sorted(planned.keys() | ledger.keys() | database.keys()):
        three = [each[account, currency] for each in (planned, database, ledger)]
        shown = [money(amount, exponents[currency]) for amount in three]
        agrees = "yes" if len(set(three)) == 1 else "NO"
        table.add_row(names.get(account, account), currency, *shown, agrees)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="italic", caption_justify="left")
