"""Compares the database with the simulator's ledger, transfer by transfer, to the minor unit.

The ledger is what really happened to the money; the database is what this program says about it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from runner.sandbox.simulator import LedgerEntry


@dataclass(frozen=True, slots=True)
class Row:
    """A row of marketplace.seller_transfers as far as money is concerned; `amount` in minor units.

    `is_paid`: the seller got the money; `is_reversed`: it is back, by a reversal of ours or another's.
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
    """The ledger, by transfer and by reversal."""

    transfers: dict[str, LedgerEntry] = field(default_factory=dict)
    reversals: dict[str, LedgerEntry] = field(default_factory=dict)
    reversals_of: defaultdict[str, list[LedgerEntry]] = field(default_factory=lambda: defaultdict(list))
    back: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, entries: Sequence[LedgerEntry]) -> "_Ledger":
        ledger = cls()
        for entry in entries:
            if entry.kind == "transfer" and entry.transfer is not None:
                ledger.transfers[entry.transfer] = entry
            elif entry.kind == "reversal" and entry.transfer is not None and entry.reversal is not None:
                ledger.reversals[entry.reversal] = entry
                ledger.reversals_of[entry.transfer].append(entry)
                ledger.back[entry.transfer] += entry.moved
            elif entry.kind == "reversal_status" and entry.transfer is not None:
                ledger.back[entry.transfer] += entry.moved
        return ledger


def find_differences(rows: Sequence[Row], entries: Sequence[LedgerEntry]) -> list[str]:
    """Give every disagreement as a sentence; none if database and ledger agree."""
    ledger = _Ledger.read(entries)
    found = [difference for row in rows for difference in _of_row(row, ledger)]
    found += _of_transfers(rows, ledger)
    for books in keep_books(rows, entries):
        if books.paid_database != books.paid_ledger:
            found.append(
                f"{books.currency}: the database has {books.paid_database} paid to sellers,"
                f" the ledger {books.paid_ledger}"
            )
    return found


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


def _of_row(row: Row, ledger: _Ledger) -> Iterator[str]:
    name = f"row {row.id} ({row.order_id}, {row.stripe_transfer_id or 'no Stripe id'})"
    transfer = ledger.transfers.get(row.stripe_transfer_id or "")
    here = (row.amount, row.currency, row.destination_account)
    if transfer is not None and here != (transfer.amount, transfer.currency, transfer.destination):
        yield (
            f"{name}: the database has {row.amount} {row.currency} for {row.destination_account},"
            f" the ledger {transfer.amount} {transfer.currency} for {transfer.destination}"
        )

    back = ledger.back[row.stripe_transfer_id or ""]
    expected = row.amount if row.is_reversed else 0
    if back != expected:
        yield f"{name}: by the database {expected} {row.currency} came back, by the ledger {back}"
    reversals = ledger.reversals_of[row.stripe_transfer_id or ""]
    if len(reversals) > 1:
        yield f"{name}: one reversal was due, the ledger has {len(reversals)}"

    if row.stripe_reversal_id is None:
        return
    reversal = ledger.reversals.get(row.stripe_reversal_id)
    if reversal is None:
        yield f"{name}: the ledger does not have its reversal {row.stripe_reversal_id}"
    elif (row.stripe_transfer_id, row.amount, row.currency) != (reversal.transfer, reversal.amount, reversal.currency):
        yield (
            f"{name}: its reversal {row.stripe_reversal_id} is one of"
            f" {reversal.amount} {reversal.currency} of {reversal.transfer}"
        )


def _of_transfers(rows: Sequence[Row], ledger: _Ledger) -> Iterator[str]:
    known = {row.stripe_transfer_id for row in rows}
    for transfer in sorted(ledger.reversals_of.keys() | ledger.transfers.keys()):
        back = ledger.back[transfer]
        paid = ledger.transfers[transfer].amount if transfer in ledger.transfers else 0
        if back > paid:
            yield f"{transfer}: {paid} were paid and {back} came back"
        if transfer not in known and back != 0:
            yield f"{transfer}: {back} came back, and no row of the database is about it"
    claimed = Counter(row.stripe_reversal_id for row in rows if row.stripe_reversal_id is not None)
    for reversal, times in claimed.items():
        if times > 1:
            yield f"{reversal}: {times} rows of the database have it as theirs"
