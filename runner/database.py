"""The database as this program sees it: one Python function per SQL function, typed rows, nothing else.

Each call is one statement in a transaction of its own, so that nothing is open while Stripe is called. Connections may
pass through a pooler in transaction mode: no prepared statements, no SET; only `listen` needs a session.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from runner.clean import safe_text
from runner.clock import boottime_seconds
from runner.outcome import Outcome
from runner.pooler import SessionShared, is_shared_async
from runner.schema import SchemaRelease
from runner.servers import count_servers

Row = TypeVar("Row")

# Of several servers each may be silent, and the one that answers must still have its turn.
_CONNECT_SECONDS = 10
_CONNECT_SECONDS_IN_ALL = 20
# Longer than any of these functions takes; an answer after that would come from a database that is gone.
_STATEMENT_SECONDS = 30
_CHANNEL = "seller_transfers_due"
# Beside lost connections: deadlock and serialization (40), resources (53), locks (55), shutdown and start-up (57),
# input and output (58), and a server that has become a read-only standby.
_PASSING = ("40", "53", "55", "57", "58")
_READ_ONLY = "25006"
_WRONG_ACCOUNT = "ST006"
_NOT_REGISTERED = "ST008"
_NOT_AS_THINGS_STAND = "ST012"
_ANOTHER_DATABASE = "ST014"
_RUNNER_TOO_OLD = "ST015"

_log = structlog.get_logger()


class DatabaseUnavailable(Exception):
    """The database cannot be reached, or cannot do it now; the call may succeed later. The text has no password."""


class Conflicted(DatabaseUnavailable):
    """Another transaction was in the way; the same call may do at once."""


class RowsLocked(DatabaseUnavailable):
    """Another transaction has held a row for too long; the others need not wait for it."""


class WrongAccount(Exception):
    """The Stripe key is of another account or mode than the database; the text names both and the key it takes."""


class NotRegistered(Exception):
    """The worker may not claim until it has registered, again perhaps; the text says why."""


class NotResumed(Exception):
    """What is asked for cannot be done as things stand; the text says why, and what to do."""


class SchemaUnusable(Exception):
    """The schema is missing or not the one this program was built for; the text says what to do."""


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
class _StripeTransferId:
    stripe_transfer_id: str


@dataclass(frozen=True, slots=True)
class _ReadIn:
    read_in: timedelta


@dataclass(frozen=True, slots=True)
class _Clock:
    now: datetime


@dataclass(frozen=True, slots=True)
class _EventType:
    event_type: str


@dataclass(frozen=True, slots=True)
class _Claimed:
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
class _Release:
    singleton: bool
    migration_head: str
    functions_sha256: str
    loaded_at: datetime
    loaded_by: str


@dataclass(frozen=True, slots=True)
class _NextDue:
    next_due_in: timedelta | None


class Database:
    """One connection that is made when it is needed and made anew after it broke. Calls take turns.

    Every method raises DatabaseUnavailable for what may pass, psycopg.Error for what will not, and SchemaUnusable for
    rows of another release's shape. After DatabaseUnavailable the call may have been committed or not: each SQL
    function is made to be called again.
    """

    def __init__(self, conninfo: str, application_name: str, *, statement_seconds: float = _STATEMENT_SECONDS) -> None:
        self._conninfo = conninfo
        self._application_name = application_name
        self._statement_seconds = statement_seconds
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self._told: str | None = None

    async def register_runner(
        self, worker: str, version: str, stripe_account: str | None, livemode: bool
    ) -> RegisteredRunner:
        """Let this worker claim. Raises WrongAccount."""
        rows = await self._call(
            RegisteredRunner,
            "SELECT * FROM marketplace.register_runner("
            "p_worker => %s, p_version => %s, p_stripe_account => %s, p_livemode => %s)",
            (worker, version, stripe_account, livemode),
        )
        return rows[0]

    async def claim_due_reversals(self, worker: str, limit: int, lease: timedelta) -> list[StripeTask]:
        """Lease up to `limit` due rows. A lease is counted from before the claim was sent: it ends here first.

        Raises NotRegistered.
        """
        return await self._claim(
            "SELECT * FROM marketplace.claim_due_reversals(p_worker => %s, p_limit => %s, p_lease => %s)",
            (worker, limit, lease),
        )

    async def claim_due_transfers(self, worker: str, limit: int, lease: timedelta) -> list[StripeTask]:
        """Lease up to `limit` rows to be sent, or looked for, as `claim_due_reversals` does reversals."""
        return await self._claim(
            "SELECT * FROM marketplace.claim_due_transfers(p_worker => %s, p_limit => %s, p_lease => %s)",
            (worker, limit, lease),
        )

    async def record_reversal_outcomes(self, outcomes: Sequence[Outcome]) -> list[RecordedOutcome]:
        """Report outcomes of reversals; one result per outcome, in the same order."""
        return await self._call(
            RecordedOutcome, "SELECT * FROM marketplace.record_reversal_outcomes(p_outcomes => %s)", _reported(outcomes)
        )

    async def record_transfer_outcomes(self, outcomes: Sequence[Outcome]) -> list[RecordedOutcome]:
        """Report outcomes of sends and their look-ups; one result per outcome, in the same order."""
        return await self._call(
            RecordedOutcome, "SELECT * FROM marketplace.record_transfer_outcomes(p_outcomes => %s)", _reported(outcomes)
        )

    async def next_due_in(self, kind: str) -> timedelta | None:
        """How long until a claim of this kind could return a row; None if there is none to wait for."""
        rows = await self._call(_NextDue, "SELECT * FROM marketplace.next_due_in(p_kind => %s) AS next_due_in", (kind,))
        return rows[0].next_due_in

    async def queue_health(self) -> list[QueueHealth]:
        """How the work stands, a row per kind."""
        return await self._call(QueueHealth, "SELECT * FROM marketplace.read_queue_health()", ())

    async def needs_attention(self) -> list[Attention]:
        """What waits for a person, the oldest first."""
        return await self._call(Attention, "SELECT * FROM marketplace.read_needs_attention()", ())

    async def open_transfers(self) -> list[OpenReason]:
        """Why transfers are not sent yet, a row per reason; those that need a person first."""
        return await self._call(OpenReason, "SELECT * FROM marketplace.read_open_transfers()", ())

    async def open_reversals(self) -> list[OpenReason]:
        """Why reversals are not done yet, a row per reason; those that need a person first."""
        return await self._call(OpenReason, "SELECT * FROM marketplace.read_open_reversals()", ())

    async def runner_health(self) -> list[RegisteredRunner]:
        """Which runners there are."""
        return await self._call(RegisteredRunner, "SELECT * FROM marketplace.read_runner_health()", ())

    async def rate_budget(self) -> RateBudget:
        """How many Stripe calls may be made."""
        rows = await self._call(RateBudget, "SELECT * FROM marketplace.read_rate_budget()", ())
        return rows[0]

    async def transfer_totals(self) -> list[TransferTotal]:
        """Where the money stands, by currency and status."""
        return await self._call(TransferTotal, "SELECT * FROM marketplace.read_transfer_totals()", ())

    async def self_check(self, *, with_log: bool) -> list[Problem]:
        """What is wrong with the schema and what is in it; with the log everything is read, which takes its time."""
        return await self._call(Problem, "SELECT * FROM marketplace.self_check(p_with_log => %s)", (with_log,))

    async def server_check(self) -> list[Problem]:
        """What is wrong with the server."""
        return await self._call(Problem, "SELECT * FROM marketplace.server_check()", ())

    async def function_sources(self) -> list[FunctionSource]:
        """The functions that are installed."""
        return await self._call(FunctionSource, "SELECT * FROM marketplace.function_sources()", ())

    async def clock(self) -> datetime:
        """What time it is for the database."""
        rows = await self._call(_Clock, "SELECT * FROM marketplace.read_clock() AS now", ())
        return rows[0].now

    async def ingest_stripe_event(self, event: dict[str, Any], raw_sha256: str | None) -> IngestedEvent:
        """Store an event and act on it; `raw_sha256` is of the bytes it came in, in hex, if it was delivered."""
        rows = await self._call(
            IngestedEvent,
            "SELECT * FROM marketplace.ingest_stripe_event(p_event => %s, p_raw_sha256 => %s)",
            (Jsonb(event), raw_sha256),
        )
        return rows[0]

    async def retry_events(self, limit: int) -> list[IngestedEvent]:
        """Act on up to `limit` events that were kept, those that were tried longest ago first."""
        return await self._call(IngestedEvent, "SELECT * FROM marketplace.retry_events(p_limit => %s)", (limit,))

    async def read_kept_events(self) -> list[KeptEvent]:
        """The events that are kept, those first that came first."""
        return await self._call(KeptEvent, "SELECT * FROM marketplace.read_kept_events()", ())

    async def acted_event_types(self) -> list[str]:
        """The types of event that something is done about."""
        rows = await self._call(_EventType, "SELECT * FROM marketplace.acted_event_types() AS event_type", ())
        return [row.event_type for row in rows]

    async def start_reconcile(
        self, stripe_account: str | None, livemode: bool, created_since: datetime | None
    ) -> ReconcileRun:
        """Begin a comparison with Stripe, of what was made since then or of everything. Raises WrongAccount."""
        rows = await self._call(
            ReconcileRun,
            "SELECT * FROM marketplace.start_reconcile("
            "p_stripe_account => %s, p_livemode => %s, p_created_since => %s)",
            (stripe_account, livemode, created_since),
        )
        return rows[0]

    async def pay_for_read(self, run_id: int) -> timedelta:
        """Take the token for one request of the run; or say how long until there may be one."""
        rows = await self._call(_ReadIn, "SELECT * FROM marketplace.pay_for_read(p_run_id => %s) AS read_in", (run_id,))
        return rows[0].read_in

    async def keep_listed_objects(self, run_id: int, objects: Sequence[dict[str, Any]]) -> ReconcileRun:
        """Hand over what Stripe listed, 1000 objects at most, each transfer with its reversals."""
        rows = await self._call(
            ReconcileRun,
            "SELECT * FROM marketplace.keep_listed_objects(p_run_id => %s, p_objects => %s)",
            (run_id, Jsonb(list(objects))),
        )
        return rows[0]

    async def transfers_to_reread(self, run_id: int, limit: int) -> list[str]:
        """The transfers (`tr_…`) that are to be read a second time."""
        rows = await self._call(
            _StripeTransferId,
            "SELECT * FROM marketplace.transfers_to_reread(p_run_id => %s, p_limit => %s) AS stripe_transfer_id",
            (run_id, limit),
        )
        return [row.stripe_transfer_id for row in rows]

    async def finish_reconcile(self, run_id: int, trouble: str | None = None) -> ReconcileRun:
        """Compare, or say why not everything could be read."""
        rows = await self._call(
            ReconcileRun,
            "SELECT * FROM marketplace.finish_reconcile(p_run_id => %s, p_trouble => %s)",
            (run_id, trouble),
        )
        return rows[0]

    async def reconcile_differences(self, run_id: int) -> list[Difference]:
        """What a run found, urgent ones first."""
        return await self._call(
            Difference, "SELECT * FROM marketplace.reconcile_differences(p_run_id => %s)", (run_id,)
        )

    async def read_reconcile_run(self) -> ReconcileRun | None:
        """The last comparison with Stripe; None if there was none."""
        rows = await self._call(ReconcileRun, "SELECT * FROM marketplace.read_reconcile_run()", ())
        return rows[0] if rows else None

    async def look_up_differences(self, run_id: int, reason: str) -> list[LookedUp]:
        """Have the rows looked up that a run found paid, or taken back, without knowing."""
        return await self._call(
            LookedUp,
            "SELECT * FROM marketplace.look_up_differences(p_run_id => %s, p_reason => %s)",
            (run_id, reason),
        )

    async def resume_after_reconcile(self, run_id: int, reason: str) -> None:
        """Let calls go on, if what the run found allows it. Raises NotResumed."""
        await self._call(
            ReconcileRun,
            "SELECT * FROM marketplace.resume_after_reconcile(p_run_id => %s, p_reason => %s)",
            (run_id, reason),
        )

    async def answer(self) -> None:
        """Return if the database does its work for this program, whatever release it is of."""
        with suppress(psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
            await self._schema_state()

    async def require_release(self, wanted: SchemaRelease) -> None:
        """Raise SchemaUnusable unless the database has exactly this release of the schema."""
        try:
            rows = await self._schema_state()
        except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
            rows = []
        if not rows:
            raise SchemaUnusable("the database has no schema of this program; run: seller-transfers migrate")
        found = rows[0]
        if found.migration_head > wanted.migration_head:
            raise SchemaUnusable(
                f"the database is at {found.migration_head}, newer than this program ({wanted.migration_head});"
                " install the release that migrated it"
            )
        if found.migration_head < wanted.migration_head:
            raise SchemaUnusable(
                f"the database is at {found.migration_head}, older than this program ({wanted.migration_head});"
                " run: seller-transfers migrate"
            )
        if found.functions_sha256 != wanted.functions_sha256:
            raise SchemaUnusable(
                f"the functions loaded at {found.loaded_at:%Y-%m-%d %H:%M:%S %Z} by {found.loaded_by} are not those"
                " of this program; run: seller-transfers migrate"
            )

    async def close(self) -> None:
        """Close the connection; the next call would open one again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _log_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """Log that no call is made because the database is not the one it was; once, for it is told at every claim."""
        text = notice.message_primary
        if notice.sqlstate == _ANOTHER_DATABASE and text is not None and text != self._told:
            self._told = text
            hint = safe_text(notice.message_hint or "", 500)
            _log.warning("the database is not the one it was", what=safe_text(text, 1000), hint=hint)

    async def _schema_state(self) -> list[_Release]:
        return await self._call(_Release, "SELECT * FROM marketplace.schema_state()", ())

    async def _claim(self, statement: str, arguments: tuple[Any, ...]) -> list[StripeTask]:
        asked_at = boottime_seconds()
        return [_leased(row, asked_at) for row in await self._call(_Claimed, statement, arguments)]

    async def _call(self, row_class: type[Row], statement: str, arguments: tuple[Any, ...]) -> list[Row]:
        async with self._turn:
            try:
                async with asyncio.timeout(self._statement_seconds):
                    if self._connection is None:
                        self._connection = await _connect(self._conninfo, self._application_name)
                        self._connection.add_notice_handler(self._log_notice)
                    async with self._connection.cursor(row_factory=class_row(row_class)) as cursor:
                        await cursor.execute(statement, arguments)
                        return await cursor.fetchall()
            except TypeError as error:
                # It was migrated while this program ran: the row has other columns than its class.
                raise SchemaUnusable(
                    "the functions in the database are of another release than this program; install that release"
                ) from error
            except BaseException as error:
                # Cancelled or timed out in the middle, a connection is in nobody knows what state.
                if not isinstance(error, psycopg.Error) or self._connection is None or self._connection.broken:
                    await self.close()
                if isinstance(error, psycopg.errors.LockNotAvailable):
                    raise RowsLocked(_first_line(error)) from error
                if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
                    raise Conflicted(_first_line(error)) from error
                if _may_pass(error):
                    await self.close()
                    raise DatabaseUnavailable(_first_line(error)) from error
                if isinstance(error, psycopg.Error):
                    _raise_refusal(error)
                raise


async def listen(conninfo: str, application_name: str) -> AsyncIterator[None]:
    """Yield when listening has begun and at every NOTIFY, until the connection breaks: DatabaseUnavailable.

    Raises SessionShared behind a pooler in transaction mode: notices would go to whoever has the session then.
    """
    try:
        async with await _connect(conninfo, application_name) as connection:
            if await is_shared_async(connection, lambda: _connect(conninfo, application_name)):
                raise SessionShared("a pooler in transaction mode hands the session that would listen to others")
            await connection.execute(f"LISTEN {_CHANNEL}")
            yield
            async for _ in connection.notifies():
                yield
    except (psycopg.Error, TimeoutError) as error:
        raise DatabaseUnavailable(_first_line(error)) from error
    raise DatabaseUnavailable("the connection that listens was closed")


def _leased(row: _Claimed, asked_at: float) -> StripeTask:
    return StripeTask(
        id=row.id,
        action=row.action,
        lease_token=str(row.lease_token),
        lease_ends=asked_at + row.lease_seconds,
        stripe_transfer_id=row.stripe_transfer_id,
        stripe_reversal_id=row.stripe_reversal_id,
        amount=row.amount,
        currency=row.currency,
        destination_account=row.destination_account,
        source_charge=row.source_charge,
        transfer_group=row.transfer_group,
        idempotency_key=row.idempotency_key,
        metadata=row.metadata,
        created_after=row.created_after,
    )


def _reported(outcomes: Sequence[Outcome]) -> tuple[Jsonb]:
    return (Jsonb([outcome.as_json() for outcome in outcomes]),)


async def _connect(conninfo: str, application_name: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        application_name=application_name,
        connect_timeout=max(2, min(_CONNECT_SECONDS, _CONNECT_SECONDS_IN_ALL // count_servers(conninfo))),
        # A peer that vanished without a word is noticed in half a minute instead of hours.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=4,
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, TimeoutError | psycopg.OperationalError | psycopg.InterfaceError):
        return True
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and (state[:2] in _PASSING or state == _READ_ONLY)


def _raise_refusal(error: psycopg.Error) -> None:
    """Raise what the runner branches on as an exception of its own."""
    if error.sqlstate == _WRONG_ACCOUNT:
        raise WrongAccount(f"{_first_line(error)}. {error.diag.message_hint}") from error
    if error.sqlstate == _NOT_REGISTERED:
        raise NotRegistered(_first_line(error)) from error
    if error.sqlstate == _RUNNER_TOO_OLD:
        raise SchemaUnusable(f"{_first_line(error)}. {error.diag.message_hint}") from error
    if error.sqlstate == _NOT_AS_THINGS_STAND:
        raise NotResumed(f"{_first_line(error)}. {error.diag.message_hint}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
