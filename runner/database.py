"""The database as this program sees it: one Python function per SQL function, typed rows, nothing else."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from runner.clock import boottime_seconds
from runner.connection import Connection, SchemaUnusable
from runner.outcome import Outcome
from runner.records import (
    Attention,
    Claimed,
    Clock,
    Difference,
    EventType,
    FunctionSource,
    IngestedEvent,
    KeptEvent,
    LookedUp,
    NextDue,
    OpenReason,
    Problem,
    QueueHealth,
    RateBudget,
    ReadIn,
    ReconcileRun,
    RecordedOutcome,
    RegisteredRunner,
    Release,
    StripeTask,
    StripeTransferId,
    TransferTotal,
)
from runner.schema import SchemaRelease


class Database(Connection):
    """The SQL functions.

    Every method raises DatabaseUnavailable for what may pass, psycopg.Error for what will not, and SchemaUnusable for
    rows of another release's shape. After DatabaseUnavailable the call may have been committed or not: each SQL
    function is made to be called again.
    """

    async def register_runner(
        self, worker: str, version: str, stripe_account: str | None, livemode: bool
    ) -> RegisteredRunner:
        """Let this worker claim. Raises WrongAccount."""
        rows = await self.call(
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
        return await self.call(
            RecordedOutcome, "SELECT * FROM marketplace.record_reversal_outcomes(p_outcomes => %s)", _reported(outcomes)
        )

    async def record_transfer_outcomes(self, outcomes: Sequence[Outcome]) -> list[RecordedOutcome]:
        """Report outcomes of sends and their look-ups; one result per outcome, in the same order."""
        return await self.call(
            RecordedOutcome, "SELECT * FROM marketplace.record_transfer_outcomes(p_outcomes => %s)", _reported(outcomes)
        )

    async def next_due_in(self, kind: str) -> timedelta | None:
        """How long until a claim of this kind could return a row; None if there is none to wait for."""
        rows = await self.call(NextDue, "SELECT * FROM marketplace.next_due_in(p_kind => %s) AS next_due_in", (kind,))
        return rows[0].next_due_in

    async def queue_health(self) -> list[QueueHealth]:
        """How the work stands, a row per kind."""
        return await self.call(QueueHealth, "SELECT * FROM marketplace.read_queue_health()", ())

    async def needs_attention(self) -> list[Attention]:
        """What waits for a person, the oldest first."""
        return await self.call(Attention, "SELECT * FROM marketplace.read_needs_attention()", ())

    async def open_transfers(self) -> list[OpenReason]:
        """Why transfers are not sent yet, a row per reason; those that need a person first."""
        return await self.call(OpenReason, "SELECT * FROM marketplace.read_open_transfers()", ())

    async def open_reversals(self) -> list[OpenReason]:
        """Why reversals are not done yet, a row per reason; those that need a person first."""
        return await self.call(OpenReason, "SELECT * FROM marketplace.read_open_reversals()", ())

    async def runner_health(self) -> list[RegisteredRunner]:
        """Which runners there are."""
        return await self.call(RegisteredRunner, "SELECT * FROM marketplace.read_runner_health()", ())

    async def rate_budget(self) -> RateBudget:
        """How many Stripe calls may be made."""
        rows = await self.call(RateBudget, "SELECT * FROM marketplace.read_rate_budget()", ())
        return rows[0]

    async def transfer_totals(self) -> list[TransferTotal]:
        """Where the money stands, by currency and status."""
        return await self.call(TransferTotal, "SELECT * FROM marketplace.read_transfer_totals()", ())

    async def self_check(self, *, with_log: bool) -> list[Problem]:
        """What is wrong with the schema and what is in it; with the log everything is read, which takes its time."""
        return await self.call(Problem, "SELECT * FROM marketplace.self_check(p_with_log => %s)", (with_log,))

    async def server_check(self) -> list[Problem]:
        """What is wrong with the server."""
        return await self.call(Problem, "SELECT * FROM marketplace.server_check()", ())

    async def function_sources(self) -> list[FunctionSource]:
        """The functions that are installed."""
        return await self.call(FunctionSource, "SELECT * FROM marketplace.function_sources()", ())

    async def clock(self) -> datetime:
        """What time it is for the database."""
        rows = await self.call(Clock, "SELECT * FROM marketplace.read_clock() AS now", ())
        return rows[0].now

    async def ingest_stripe_event(self, event: dict[str, Any], raw_sha256: str | None) -> IngestedEvent:
        """Store an event and act on it; `raw_sha256` is of the bytes it came in, in hex, if it was delivered."""
        rows = await self.call(
            IngestedEvent,
            "SELECT * FROM marketplace.ingest_stripe_event(p_event => %s, p_raw_sha256 => %s)",
            (Jsonb(event), raw_sha256),
        )
        return rows[0]

    async def retry_events(self, limit: int) -> list[IngestedEvent]:
        """Act on up to `limit` events that were kept, those that were tried longest ago first."""
        return await self.call(IngestedEvent, "SELECT * FROM marketplace.retry_events(p_limit => %s)", (limit,))

    async def read_kept_events(self) -> list[KeptEvent]:
        """The events that are kept, those first that came first."""
        return await self.call(KeptEvent, "SELECT * FROM marketplace.read_kept_events()", ())

    async def acted_event_types(self) -> list[str]:
        """The types of event that something is done about."""
        rows = await self.call(EventType, "SELECT * FROM marketplace.acted_event_types() AS event_type", ())
        return [row.event_type for row in rows]

    async def start_reconcile(
        self, stripe_account: str | None, livemode: bool, created_since: datetime | None
    ) -> ReconcileRun:
        """Begin a comparison with Stripe, of what was made since then or of everything. Raises WrongAccount."""
        rows = await self.call(
            ReconcileRun,
            "SELECT * FROM marketplace.start_reconcile("
            "p_stripe_account => %s, p_livemode => %s, p_created_since => %s)",
            (stripe_account, livemode, created_since),
        )
        return rows[0]

    async def pay_for_read(self, run_id: int) -> timedelta:
        """Take the token for one request of the run; or say how long until there may be one."""
        rows = await self.call(ReadIn, "SELECT * FROM marketplace.pay_for_read(p_run_id => %s) AS read_in", (run_id,))
        return rows[0].read_in

    async def keep_listed_objects(self, run_id: int, objects: Sequence[dict[str, Any]]) -> ReconcileRun:
        """Hand over what Stripe listed, 1000 objects at most, each transfer with its reversals."""
        rows = await self.call(
            ReconcileRun,
            "SELECT * FROM marketplace.keep_listed_objects(p_run_id => %s, p_objects => %s)",
            (run_id, Jsonb(list(objects))),
        )
        return rows[0]

    async def transfers_to_reread(self, run_id: int, limit: int) -> list[str]:
        """The transfers (`tr_…`) that are to be read a second time."""
        rows = await self.call(
            StripeTransferId,
            "SELECT * FROM marketplace.transfers_to_reread(p_run_id => %s, p_limit => %s) AS stripe_transfer_id",
            (run_id, limit),
        )
        return [row.stripe_transfer_id for row in rows]

    async def finish_reconcile(self, run_id: int, trouble: str | None = None) -> ReconcileRun:
        """Compare, or say why not everything could be read."""
        rows = await self.call(
            ReconcileRun,
            "SELECT * FROM marketplace.finish_reconcile(p_run_id => %s, p_trouble => %s)",
            (run_id, trouble),
        )
        return rows[0]

    async def reconcile_differences(self, run_id: int) -> list[Difference]:
        """What a run found, urgent ones first."""
        return await self.call(Difference, "SELECT * FROM marketplace.reconcile_differences(p_run_id => %s)", (run_id,))

    async def read_reconcile_run(self) -> ReconcileRun | None:
        """The last comparison with Stripe; None if there was none."""
        rows = await self.call(ReconcileRun, "SELECT * FROM marketplace.read_reconcile_run()", ())
        return rows[0] if rows else None

    async def look_up_differences(self, run_id: int, reason: str) -> list[LookedUp]:
        """Have the rows looked up that a run found paid, or taken back, without knowing."""
        return await self.call(
            LookedUp,
            "SELECT * FROM marketplace.look_up_differences(p_run_id => %s, p_reason => %s)",
            (run_id, reason),
        )

    async def resume_after_reconcile(self, run_id: int, reason: str) -> None:
        """Let calls go on, if what the run found allows it. Raises NotResumed."""
        await self.call(
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

    async def _schema_state(self) -> list[Release]:
        return await self.call(Release, "SELECT * FROM marketplace.schema_state()", ())

    async def _claim(self, statement: str, arguments: tuple[Any, ...]) -> list[StripeTask]:
        asked_at = boottime_seconds()
        return [_leased(row, asked_at) for row in await self.call(Claimed, statement, arguments)]


def _leased(row: Claimed, asked_at: float) -> StripeTask:
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
