"""Compares the database with the simulator's ledger, to the minor unit: by transfer, and by seller and currency.

The ledger is what really happened to the money; the database is what this program says about it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from runner.sandbox.simulator import LedgerEntry


@dataclass(frozen=True, slots=True)
class Row:
    """A row of marketplace.seller_transfers as far as money is concerned; `amount` in minor units.

    `is_paid`: the seller got the money, and no other row has taken over; `is_reversed`: it is back, by a reversal of
    ours or another's.
    """

    id: int
    order_id: str
    amount: int
    currency: str
    destination_account: str
    is_paid: bool
    is_reversed: bool
    stripe_transfer_id: str | None
    stripe_reversal_id: str | None


@dataclass(frozen=True, slots=True)
class Books:
    """One currency, in minor units: paid to sellers and taken back, as the database has it and as the ledger has it."""

    currency: str
    paid_database: int
    paid_ledger: int
    back_database: int
    back_ledger: int

    @property
    def agree(self) -> bool:
        """Whether both say the same."""
        return (self.paid_database, self.back_database) == (self.paid_ledger, self.back_ledger)


@dataclass(slots=True)
class _Ledger:
    """The ledger, by transfer, by reversal, and by seller and currency."""

    transfers: dict[str, LedgerEntry] = field(default_factory=dict)
    reversals: dict[str, LedgerEntry] = field(default_factory=dict)
    reversals_of: defaultdict[str, list[LedgerEntry]] = field(default_factory=lambda: defaultdict(list))
    back: Counter[str] = field(default_factory=Counter)
    paid_to: Counter[tuple[str, str]] = field(default_factory=Counter)
    back_from: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def read(cls, entries: Sequence[LedgerEntry]) -> "_Ledger":
        ledger = cls()
        for entry in entries:
            if entry.transfer is None:
                continue
            seller = (entry.destination or "", entry.currency)
            if entry.kind == "transfer":
                ledger.transfers[entry.transfer] = entry
                ledger.paid_to[seller] += entry.moved
            elif entry.kind in ("reversal", "reversal_status"):
                ledger.back[entry.transfer] += entry.moved
                ledger.back_from[seller] += entry.moved
            if entry.kind == "reversal" and entry.reversal is not None:
                ledger.reversals[entry.reversal] = entry
                ledger.reversals_of[entry.transfer].append(entry)
        return ledger


def find_differences(rows: Sequence[Row], entries: Sequence[LedgerEntry]) -> list[str]:
    """Give every disagreement as a sentence; none if database and ledger agree."""
    ledger = _Ledger.read(entries)
    found = [difference for row in rows for difference in _of_evidence(row, ledger)]
    found += _of_transfers(rows, ledger)
    found += _of_sellers(rows, ledger)
    return found


def count_balances(rows: Sequence[Row]) -> int:
    """How many pairs of seller and currency there are."""
    return len({(row.destination_account, row.currency) for row in rows})


def keep_books(rows: Sequence[Row], entries: Sequence[LedgerEntry]) -> list[Books]:
    """Add up what sellers were paid and what was taken back, per currency."""
    paid_database: Counter[str] = Counter()
    back_database: Counter[str] = Counter()
    for row in rows:
        paid_database[row.currency] += row.amount if row.is_paid else 0
        back_database[row.currency] += row.amount if row.is_reversed else 0
    paid_ledger: Counter[str] = Counter()
    back_ledger: Counter[str] = Counter()
    for entry in entries:
        if entry.kind == "transfer":
            paid_ledger[entry.currency] += entry.moved
        elif entry.kind in ("reversal", "reversal_status"):
            back_ledger[entry.currency] += entry.moved
    return [
        Books(
            currency,
            paid_database[currency],
            paid_ledger[currency],
            back_database[currency],
            back_ledger[currency],
        )
        for currency in sorted(paid_database | paid_ledger | back_database | back_ledger)
    ]


def _of_evidence(row: Row, ledger: _Ledger) -> Iterator[str]:
    if row.stripe_reversal_id is None:
        return
    name = f"row {row.id} ({row.order_id}, {row.stripe_transfer_id or 'no Stripe id'})"
    reversal = ledger.reversals.get(row.stripe_reversal_id)
    if reversal is None:
        yield f"{name}: the ledger does not have its reversal {row.stripe_reversal_id}"
    elif (row.stripe_transfer_id, row.amount, row.currency) != (reversal.transfer, reversal.amount, reversal.currency):
        yield (
            f"{name}: its reversal {row.stripe_reversal_id} is one of"
            f" {reversal.amount} {reversal.currency} of {reversal.transfer}"
        )


def _of_transfers(rows: Sequence[Row], ledger: _Ledger) -> Iterator[str]:
    parts: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.is_paid and row.stripe_transfer_id is not None:
            parts[row.stripe_transfer_id].append(row)
    for transfer, its_rows in parts.items():
        yield from _of_transfer(transfer, its_rows, ledger)
    for transfer in sorted(ledger.reversals_of.keys() | ledger.transfers.keys()):
        back = ledger.back[transfer]
        paid = ledger.transfers[transfer].amount if transfer in ledger.transfers else 0
        if back > paid:
            yield f"{transfer}: {paid} were paid and {back} came back"
        if transfer not in parts and back != 0:
            yield f"{transfer}: {back} came back, and no row of the database is about it"
    claimed = Counter(row.stripe_reversal_id for row in rows if row.stripe_reversal_id is not None)
    for reversal, times in claimed.items():
        if times > 1:
            yield f"{reversal}: {times} rows of the database have it as theirs"


def _of_transfer(transfer: str, parts: Sequence[Row], ledger: _Ledger) -> Iterator[str]:
    """Compare a transfer with its rows: one, or several if parts of it were refunded."""
    first = parts[0]
    name = f"{transfer} ({first.order_id})"
    paid, back = sum(row.amount for row in parts), sum(row.amount for row in parts if row.is_reversed)
    made = ledger.transfers.get(transfer)
    # One recorded with an id that Stripe does not know is in the books of its seller all the same.
    if made is not None and (paid, first.currency, first.destination_account) != (
        made.amount,
        made.currency,
        made.destination,
    ):
        yield (
            f"{name}: the database has {paid} {first.currency} for {first.destination_account},"
            f" the ledger {made.amount} {made.currency} for {made.destination}"
        )
    if back != ledger.back[transfer]:
        yield f"{name}: by the database {back} {first.currency} came back, by the ledger {ledger.back[transfer]}"
    due, times = sum(row.is_reversed for row in parts), len(ledger.reversals_of[transfer])
    if due != times:
        yield f"{name}: by the database {due} reversals were made, by the ledger {times}"


def _of_sellers(rows: Sequence[Row], ledger: _Ledger) -> Iterator[str]:
    paid: Counter[tuple[str, str]] = Counter()
    back: Counter[tuple[str, str]] = Counter()
    for row in rows:
        paid[row.destination_account, row.currency] += row.amount if row.is_paid else 0
        back[row.destination_account, row.currency] += row.amount if row.is_reversed else 0
    for seller, currency in sorted(paid.keys() | ledger.paid_to.keys() | ledger.back_from.keys()):
        here = (paid[seller, currency], back[seller, currency])
        there = (ledger.paid_to[seller, currency], ledger.back_from[seller, currency])
        if here != there:
            yield (
                f"{seller}: by the database {here[0]} {currency} were paid and {here[1]} came back,"
                f" by the ledger {there[0]} and {there[1]}"
            )
