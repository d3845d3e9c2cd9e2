"""The rows that the database hands out, typed: what each SQL function returns, and what is made of it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class StripeTask:
    """One leased call: what to do, exactly what to send, and until when. Amounts in minor units."""

    id: int
    action: str
    lease_token: str
    lease_ends: float
    stripe_transfer_id: str | None
    stripe_reversal_id: str | None
    amount: int
    currency: str
    destination_account: str | None
    source_charge: str | None
    transfer_group: str | None
    idempotency_key: str = field(repr=False)
    metadata: dict[str, str] | None = field(repr=False)
    created_after: datetime | None


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """What became of a report: `applied`, `already_recorded` or `stale`; the verdict; where the row stands now."""

    id: int
    result: str
    verdict: str | None
    status: str | None
    next_retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class RegisteredRunner:
    """A worker that registered; `ended_at` is set if it may not claim any more."""

    worker: str
    version: str
    stripe_account: str | None
    livemode: bool
    registered_at: datetime
    last_seen_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


@dataclass(frozen=True, slots=True)
class Attention:
    """One problem that waits for a person: what it is, why, since when, and what to type next."""

    problem: str
    is_urgent: bool
    needed_since: datetime
    transfer_id: int | None
    order_id: str | None
    why: str
    next_step: str


@dataclass(frozen=True, slots=True)
class RateBudget:
    """Stripe calls that all runners together may make: as set, and now; None is any number."""

    rate: Decimal | None
    burst: int
    rate_now: Decimal | None
    tokens: int | None
    turned_down_at: datetime | None
    turned_down_reason: str | None


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """How one kind of work stands; counts of rows."""

    kind: str
    due: int
    oldest_due_for: timedelta | None
    waiting: int
    leased: int
    lapsed: int
    parked: int
    unknown_outcome: int
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    probe_at: datetime | None
    reconcile_needed_since: datetime | None


@dataclass(frozen=True, slots=True)
class OpenReason:
    """Why some reversals are not done yet, in words; whether a person is needed; since when the first has waited."""

    reason: str
    needs_a_person: bool
    transfers: int
    oldest_since: datetime | None
    meaning: str


@dataclass(frozen=True, slots=True)
class TransferTotal:
    """Transfers of one currency and status, and their sum in minor units; `exponent` digits follow the point."""

    currency: str
    exponent: int
    status: str
    transfers: int
    amount: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be, and what to do about it; not urgent: how it is here, to be known."""

    problem: str
    object: str
    detail: str | None
    hint: str
    is_urgent: bool


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function of the schema, and the SHA-256 of its body in hex."""

    name: str
    source_sha256: str


@dataclass(frozen=True, slots=True)
class IngestedEvent:
    """What became of an event: `acted`, `ignored`, `kept` or `already_known`; `detail` says more in words."""

    event_id: str
    type: str
    result: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event that could not be acted on yet: why, and what a person may type to help."""

    event_id: str
    type: str
    order_id: str | None
    kept_since: datetime
    attempts: int
    detail: str | None
    next_step: str


@dataclass(frozen=True, slots=True)
class ReconcileRun:
    """A comparison with Stripe; `finished_at` is None while it is under way, `trouble` says why it ended early."""

    id: int
    started_at: datetime
    started_by: str
    stripe_account: str | None
    livemode: bool
    created_since: datetime | None
    transfers: int
    reversals: int
    reread_at: datetime | None
    finished_at: datetime | None
    is_complete: bool
    trouble: str | None
    differences: int | None
    urgent: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between Stripe and the rows, with what to type next. Amounts in minor units."""

    run_id: int
    n: int
    kind: str
    is_urgent: bool
    forbids_calls: bool
    transfer_id: int | None
    order_id: str | None
    stripe_transfer_id: str | None
    stripe_reversal_id: str | None
    amount: int | None
    amount_at_stripe: int | None
    currency: str | None
    money: str | None
    why: str
    next_step: str


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What became of one transfer at Stripe (`tr_…`) that was to be looked up."""

    stripe_transfer_id: str
    result: str


@dataclass(frozen=True, slots=True)
class StripeTransferId:
    """The id of a transfer at Stripe, `tr_…`."""

    stripe_transfer_id: str


@dataclass(frozen=True, slots=True)
class ReadIn:
    """How long until the next request may be made."""

    read_in: timedelta


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is for the database."""

    now: datetime


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event that something is done about."""

    event_type: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased call as the database gives it, see StripeTask; the lease is a number of seconds."""

    id: int
    action: str
    lease_token: Any
    lease_seconds: float
    stripe_transfer_id: str | None
    stripe_reversal_id: str | None
    amount: int
    currency: str
    destination_account: str | None
    source_charge: str | None
    transfer_group: str | None
    idempotency_key: str
    metadata: dict[str, str] | None
    # Of transfers to be sent only; a claim of reversals has no such column.
    created_after: datetime | None


@dataclass(frozen=True, slots=True)
class Release:
    """What is installed: the newest migration, and the SHA-256 of the functions."""

    singleton: bool
    migration_head: str
    functions_sha256: str
    loaded_at: datetime
    loaded_by: str


@dataclass(frozen=True, slots=True)
class NextDue:
    """How long until something is due."""

    next_due_in: timedelta | None
