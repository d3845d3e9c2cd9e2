"""The append-only ledger: the truth about money, whatever any client was told."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "funding",
    "charge",
    "transfer",
    "reversal",
    "reversal_status",
    "refund",
    "refund_status",
    "dispute",
    "reinstatement",
]

_BETWEEN_US_AND_SELLERS: tuple[Kind, ...] = ("transfer", "reversal", "reversal_status")

OUTSIDE = "outside"
"""Where money is that is neither the platform's nor a connected account's: with buyers, in banks."""


class Clock:
    """Wall-clock time that can be moved forward by command, never back."""

    def __init__(self) -> None:
        self._advanced_seconds = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as the simulator sees them."""
        return time.time() + self._advanced_seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` (not negative) pass at once."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._advanced_seconds += seconds


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing that happened to money; amounts are exact integers in the currency's minor unit.

    `moved` went from account `debit` to account `credit`. It equals `amount` but for a pending reversal (0 at
    its creation) and for its end as failed or canceled (0 again). A reversal is one entry of kind `reversal`;
    what becomes of a pending one follows as `reversal_status`. A `refund` has moved at once whatever its status, and
    its `refund_status` moves the money back (`debit` is then outside) or 0. A `dispute` is written when its funds are
    withdrawn, its `reinstatement` when they come back. `at` is simulated wall-clock time, `monotonic`
    this machine's monotonic clock, both in seconds. `request` is the sequence number in the request log of
    the request that caused the entry, null when it was the control plane.
    """

    seq: int
    kind: Kind
    at: float
    monotonic: float
    livemode: bool
    debit: str
    credit: str
    amount: int
    moved: int
    currency: str
    transfer: str | None = None
    reversal: str | None = None
    charge: str | None = None
    refund: str | None = None
    dispute: str | None = None
    destination: str | None = None
    status: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """Which request makes an entry: its number in the log, its key, its `req_…`; empty for the control plane."""

    request: int | None = None
    idempotency_key: str | None = None
    request_id: str | None = None


class Ledger:
    """The entries, and the balances they add up to: one call does both, so the two cannot disagree."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.entries: list[LedgerEntry] = []
        self._holdings: dict[tuple[bool, str], dict[str, int]] = defaultdict(dict)
        self._kept: dict[tuple[bool, str], dict[str, int]] = defaultdict(dict)

    def post(
        self,
        kind: Kind,
        *,
        livemode: bool,
        debit: str,
        credit: str,
        amount: int,
        currency: str,
        moved: int | None = None,
        transfer: str | None = None,
        reversal: str | None = None,
        charge: str | None = None,
        refund: str | None = None,
        dispute: str | None = None,
        destination: str | None = None,
        status: str | None = None,
        metadata: dict[str, str] | None = None,
        cause: Cause = Cause(),
    ) -> None:
        """Move `moved` (default: all of `amount`) from `debit` to `credit` and write it down."""
        moved = amount if moved is None else moved
        for account, change in ((debit, -moved), (credit, moved)):
            holding = self._holdings[livemode, account]
            holding[currency] = holding.get(currency, 0) + change
        if kind in _BETWEEN_US_AND_SELLERS and destination is not None:
            kept = self._kept[livemode, destination]
            kept[currency] = kept.get(currency, 0) + (moved if credit == destination else -moved)
        entry = LedgerEntry(
            seq=len(self.entries) + 1,
            kind=kind,
            at=self.clock.now(),
            monotonic=time.monotonic(),
            livemode=livemode,
            debit=debit,
            credit=credit,
            amount=amount,
            moved=moved,
            currency=currency,
            transfer=transfer,
            reversal=reversal,
            charge=charge,
            refund=refund,
            dispute=dispute,
            destination=destination,
            status=status,
            metadata=dict(metadata or {}),
            idempotency_key=cause.idempotency_key,
            request=cause.request,
        )
        self.entries.append(entry)

    def holding(self, livemode: bool, account: str) -> dict[str, int]:
        """Give what `account` holds, by currency; empty for an account that never held anything."""
        return dict(self._holdings.get((livemode, account), {}))

    def balance(self, livemode: bool, account: str, currency: str) -> int:
        """Give what `account` holds in `currency`; 0 for anything never seen."""
        return self._holdings.get((livemode, account), {}).get(currency, 0)

    def balances(self, livemode: bool) -> dict[str, dict[str, int]]:
        """Give every account's holding, `OUTSIDE` too; each currency sums to 0 over all of them."""
        return {account: dict(held) for (mode, account), held in self._holdings.items() if mode == livemode}

    def sent_minus_reversed(self, livemode: bool) -> dict[str, dict[str, int]]:
        """Give what transfers gave each destination and reversals did not take back, by currency."""
        return {account: dict(kept) for (mode, account), kept in self._kept.items() if mode == livemode}
