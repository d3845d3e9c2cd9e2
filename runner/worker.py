"""The long-lived loop: keep the slots filled, make the calls, report what came of them.

It decides nothing. Which row is due, what to do, what an answer means and when to try again are the database's to
say. No slot waits for another: a slow call holds up one slot, a batch of outcomes is whatever has come in meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import psycopg
import structlog

from runner.clean import safe_text
from runner.clock import boottime_seconds
from runner.connection import DatabaseUnavailable, NotRegistered, RowsLocked, listen
from runner.database import Database
from runner.kinds import KINDS, Kind
from runner.outcome import Outcome
from runner.pooler import SessionShared
from runner.records import RecordedOutcome, StripeTask
from runner.registration import VERSION, AccountChecker, Registration
from runner.settings import Settings
from runner.waiting import Backoff, first_of

# After a claim that found less than there was room for, however soon something is said to be due: a database that is
# wrong about it must not be hammered. The same for a row whose call was not made.
_IDLE_FLOOR_SECONDS = 0.05
_NOT_SENT_SECONDS = 1.0
_REPORT_LIMIT = 100
_LAST_REPORT_SECONDS = 5.0
_LOCKED_SECONDS = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Finished:
    """A call that is over: its outcome, when its lease ends, and what is set when it is in the database."""

    kind: Kind
    outcome: Outcome
    lease_ends: float
    recorded: asyncio.Event


class Performer(AccountChecker, Protocol):
    """What makes the calls: runner.gateway.Gateway."""

    async def perform(self, call: StripeTask) -> Outcome:
        """Make one call and return its outcome; never raises but for cancellation."""


class Worker:
    """One runner, for some kinds of work: `run` until `stop`."""

    def __init__(self, settings: Settings, performer: Performer, kinds: Sequence[Kind] = KINDS) -> None:
        conninfo = settings.database_url.get_secret_value()
        self._settings = settings
        self._performer = performer
        self._kinds = kinds
        self._conninfo = conninfo
        # Two connections, so that a claim which waits for its turn holds up no report.
        self._claims = Database(conninfo, f"seller-transfers claims {settings.worker}"[:63])
        self._reports = Database(conninfo, f"seller-transfers reports {settings.worker}"[:63])
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._stopping = asyncio.Event()
        self._registration = Registration(settings.worker, performer, self._claims, self._stopping)
        self._notified = asyncio.Event()
        self._rescheduled = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._outcomes: asyncio.Queue[_Finished] = asyncio.Queue()

    def stop(self) -> None:
        """Stop claiming; `run` returns when what is in flight has been reported."""
        self._stopping.set()

    async def run(self) -> None:
        """Register, then work until `stop`. What goes away is waited for; leases that lapse meanwhile are others' work.

        Raises KeyRefused, WrongAccount or psycopg.Error when it cannot register in the first place, and SchemaUnusable
        when the database has been migrated to another release meanwhile.
        """
        try:
            account = await self._registration.begin()
            if account is not None:
                _log.info(
                    "running",
                    worker=self._settings.worker,
                    kinds=[kind.name for kind in self._kinds],
                    slots=self._settings.slots,
                    account=account.id,
                    livemode=account.livemode,
                    version=VERSION,
                )
                await self._work()
        finally:
            await self._claims.close()
            await self._reports.close()

    async def _work(self) -> None:
        listener = asyncio.create_task(self._listen())
        reporter = asyncio.create_task(self._report_outcomes())
        try:
            try:
                await self._keep_slots_filled()
            finally:
                self._stopping.set()
                if self._calls:
                    _log.info("stopping: finishing calls in flight", calls=len(self._calls))
                    await asyncio.wait(self._calls)
        finally:
            # Calls are left only if something went wrong: a cancelled one still has an outcome to report.
            for call in self._calls:
                call.cancel()
            if self._calls:
                await asyncio.wait(self._calls, timeout=_LAST_REPORT_SECONDS)
            for task in (listener, reporter, *self._calls):
                task.cancel()
            await asyncio.gather(listener, reporter, *self._calls, return_exceptions=True)

    async def _keep_slots_filled(self) -> None:
        failures = Backoff("claiming")
        while not self._stopping.is_set():
            free = self._settings.slots - len(self._calls)
            if free == 0:
                self._slot_freed.clear()
                await first_of(self._slot_freed, self._stopping)
                continue
            self._notified.clear()
            self._rescheduled.clear()
            try:
                if await self._fill(free) > 0:
                    await self._idle()
            except NotRegistered as ended:
                await self._registration.renew(ended)
            except (DatabaseUnavailable, psycopg.Error) as error:
                await first_of(self._stopping, seconds=failures.next_delay(error))
            else:
                failures.over()

    async def _fill(self, free: int) -> int:
        """Claim and start what there is, kind by kind; gives how many slots are left free."""
        for kind in self._kinds:
            if free == 0 or self._stopping.is_set():
                break
            tasks = await kind.claim(self._claims, self._settings.worker, free, self._lease)
            for task in tasks:
                self._start(kind, task)
            free -= len(tasks)
        return free

    async def _idle(self) -> None:
        """Sleep until NOTIFY, the next due time or the poll interval, whichever comes first."""
        await first_of(self._notified, self._stopping, seconds=_IDLE_FLOOR_SECONDS)
        if self._notified.is_set() or self._stopping.is_set():
            return
        seconds = self._settings.poll_seconds
        for kind in self._kinds:
            due = await self._claims.next_due_in(kind.name)
            if due is not None:
                seconds = min(seconds, due.total_seconds())
        await first_of(self._notified, self._rescheduled, self._stopping, seconds=seconds)

    def _start(self, kind: Kind, task: StripeTask) -> None:
        call = asyncio.create_task(self._call(kind, task))
        self._calls.add(call)
        call.add_done_callback(self._end)

    def _end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._slot_freed.set()

    async def _call(self, kind: Kind, task: StripeTask) -> None:
        """Make one call; the slot is free again when its outcome is in the database."""
        outcome = await self._performer.perform(task)
        finished = _Finished(kind, outcome, task.lease_ends, asyncio.Event())
        await self._outcomes.put(finished)
        await finished.recorded.wait()
        if not outcome.sent:
            await first_of(self._stopping, seconds=_NOT_SENT_SECONDS)

    async def _report_outcomes(self) -> None:
        while True:
            batch = [await self._outcomes.get()]
            while len(batch) < _REPORT_LIMIT and not self._outcomes.empty():
                batch.append(self._outcomes.get_nowait())
            for kind in self._kinds:
                of_kind = [finished for finished in batch if finished.kind is kind]
                if of_kind:
                    await self._report_batch(kind, of_kind)

    async def _report_batch(self, kind: Kind, batch: list[_Finished]) -> None:
        """Report together; if another transaction holds a row, one by one, and only that row keeps its slot waiting."""
        try:
            outcomes = [finished.outcome for finished in batch]
            await self._report(kind, outcomes, max(finished.lease_ends for finished in batch))
        except RowsLocked:
            if len(batch) > 1:
                for finished in batch:
                    await self._report_batch(kind, [finished])
            else:
                asyncio.get_running_loop().call_later(_LOCKED_SECONDS, self._outcomes.put_nowait, batch[0])
            return
        for finished in batch:
            finished.recorded.set()

    async def _report(self, kind: Kind, outcomes: Sequence[Outcome], lease_ends: float) -> None:
        """Report until it is in the database. An error at COMMIT says nothing about it; a second report is harmless.

        Raises RowsLocked.
        """
        failures = Backoff("reporting")
        while True:
            try:
                self._note(outcomes, await kind.record(self._reports, outcomes))
            except DatabaseUnavailable as error:
                if self._stopping.is_set() and boottime_seconds() > lease_ends:
                    for outcome in outcomes:
                        _log.error("outcome not reported: the lease has lapsed", **_facts(outcome))
                    return
                if isinstance(error, RowsLocked):
                    raise
                await asyncio.sleep(failures.next_delay(error))
            except Exception:  # whatever it is: were this task to end, every call would wait for ever
                await self._report_one_by_one(kind, outcomes, lease_ends)
                return
            else:
                failures.over()
                return

    async def _report_one_by_one(self, kind: Kind, outcomes: Sequence[Outcome], lease_ends: float) -> None:
        """A report that the database refuses takes no other with it; its lease lapses and its outcome is unknown."""
        for outcome in outcomes:
            try:
                # Once more also when it was alone: of two sessions that bring the same evidence, one is refused once.
                self._note([outcome], await kind.record(self._reports, [outcome]))
            except DatabaseUnavailable:
                await self._report(kind, [outcome], lease_ends)
            except Exception as again:
                _log.error("outcome refused by the database", reason=safe_text(str(again), 300), **_facts(outcome))

    def _note(self, outcomes: Sequence[Outcome], results: Sequence[RecordedOutcome]) -> None:
        for outcome, result in zip(outcomes, results, strict=True):
            said = {"verdict": result.verdict, "status": result.status, "result": result.result, **_facts(outcome)}
            _level(outcome, result)("outcome", **said)
        # A row may be due again sooner than was known, or another one whose transfer was under way.
        self._rescheduled.set()

    async def _listen(self) -> None:
        """Pass NOTIFY on to the loop. It is a hint: without it the due time and the poll interval do."""
        failures = Backoff("listening")
        while True:
            try:
                async for _ in listen(self._conninfo, f"seller-transfers listens {self._settings.worker}"[:63]):
                    failures.over()
                    self._notified.set()
            except DatabaseUnavailable as error:
                await asyncio.sleep(failures.next_delay(error))
            except SessionShared as shared:
                _log.info("not listening, polling", why=str(shared), poll_seconds=self._settings.poll_seconds)
                return


def _facts(outcome: Outcome) -> dict[str, object]:
    """What Stripe said, for a log line: if the database does not get it, it is nowhere else."""
    facts = {
        "row": outcome.id,
        "action": outcome.action,
        "http_status": outcome.http_status,
        "object": None if outcome.object is None else outcome.object.id,
        "found": None if outcome.found is None else len(outcome.found),
        "error_code": outcome.error_code,
        "error": outcome.error_message,
        "stripe_request": outcome.stripe_request_id,
        "ms": outcome.duration_ms,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _level(outcome: Outcome, result: RecordedOutcome) -> Callable[..., None]:
    """What an operator should see first: a lost row, a refused key, a row that ended without a reversal at Stripe."""
    if result.verdict is None:
        # The row is gone, as after a failover that lost it. What Stripe said is nowhere but here.
        return _log.error  # type: ignore[no-any-return]  # structlog's logger is Any
    # The object of a look-up is the transfer, and says nothing of an end; what was found does.
    bare = outcome.object is None if outcome.found is None else not outcome.found
    ended = outcome.sent and result.next_retry_at is None
    if outcome.http_status in (401, 403) or (ended and bare):
        return _log.warning  # type: ignore[no-any-return]
    return _log.info  # type: ignore[no-any-return]
