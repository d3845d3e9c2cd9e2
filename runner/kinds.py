"""The kinds of work there are, and which functions of the database hand each out and take its reports."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from runner.database import Database
from runner.outcome import Outcome
from runner.records import RecordedOutcome, StripeTask


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work; `name` is what the database calls it."""

    name: str
    claim: Callable[[Database, str, int, timedelta], Awaitable[list[StripeTask]]]
    record: Callable[[Database, Sequence[Outcome]], Awaitable[list[RecordedOutcome]]]


# In the order in which they are claimed: where slots or calls are short, the first goes first.
KINDS = (
    Kind("reversals", Database.claim_due_reversals, Database.record_reversal_outcomes),
    Kind("transfers", Database.claim_due_transfers, Database.record_transfer_outcomes),
)
