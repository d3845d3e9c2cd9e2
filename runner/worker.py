"""The long-lived loop: keep the slots filled, make the calls, report what came of them.

It decides nothing. Which row is due, what to do, what an answer means and when to try again are the database's to
say. No slot waits for another: a slow call holds up one slot, a batch of outcomes is whatever has come in meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import psycopg
import structlog

from runner.clean import safe_text
from runner.clock import boottime_seconds
from runner.database import (
    Database,
    DatabaseUnavailable,
    NotRegistered,
    RecordedOutcome,
    RowsLocked,
    StripeTask,
    listen,
)
from runner.outcome import Outcome
from runner.registration import VERSION, AccountChecker, Registration
from runner.settings import Settings

# After a claim that found less than there was room for, however soon something is said to be due: a database that is
# wrong about it must not be hammered. The same for a row whose call was not made.
_IDLE_FLOOR_SECONDS = 0.05
_NOT_SENT_SECONDS = 1.0
_REPORT_LIMIT = 100
_LAST_REPORT_SECONDS = 5.0
_BACKOFF_FIRST_SECONDS = 0.1
_BACKOFF_LAST_SECONDS = 5.0
_LOCKED_SECONDS = 1.0

# An outcome, when its lease ends, and what is set when it is in the database.
_Finished = tuple[Outcome, float, asyncio.Event]

_log = structlog.get_logger()


class Performer(AccountChecker, Protocol):
    """What makes the calls: runner.gateway.Gateway."""

    async def perform(self, call: StripeTask) -> Outcome:
        """Make one call and return its outcome; never raises but for cancellation."""


class Worker:
    """One runner: `run` until `stop`."""

    def __init__(self, settings: Settings, performer: Performer) -> None:
        conninfo = settings.database_url.get_secret_value()
        self._settings = settings
        self._performer = performer
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
        failures = _Backoff("claiming")
        while not self._stopping.is_set():
            free = self._settings.slots - len(self._calls)
            if free == 0:
                self._slot_freed.clear()
                await _first_of(self._slot_freed, self._stopping)
                continue
            self._notified.clear()
            self._rescheduled.clear()
            try:
                tasks = await self._claims.claim_due_reversals(self._settings.worker, free, self._lease)
                for task in tasks:
                    self._start(task)
                if len(tasks) < free:
                    await self._idle()
            except NotRegistered as ended:
                await self._registration.renew(ended)
            except (DatabaseUnavailable, psycopg.Error) as error:
                await _first_of(self._stopping, seconds=failures.next_delay(error))
            else:
                failures.over()

    async def _idle(self) -> None:
        """Sleep until NOTIFY, the next due time or the poll interval, whichever comes first."""
        await _first_of(self._notified, self._stopping, seconds=_IDLE_FLOOR_SECONDS)
        if self._notified.is_set() or self._stopping.is_set():
            return
        due = await self._claims.next_due_in()
        seconds = self._settings.poll_seconds
        if due is not None:
            seconds = min(seconds, due.total_seconds())
        await _first_of(self._notified, self._rescheduled, self._stopping, seconds=seconds)

    def _start(self, task: StripeTask) -> None:
        call = asyncio.create_task(self._call(task))
        self._calls.add(call)
        call.add_done_callback(self._end)

    def _end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._slot_freed.set()

    async def _call(self, task: StripeTask) -> None:
        """Make one call; the slot is free again when its outcome is in the database."""
        outcome = await self._performer.perform(task)
        recorded = asyncio.Event()
        await self._outcomes.put((outcome, task.lease_ends, recorded))
        await recorded.wait()
        if not outcome.sent:
            await _first_of(self._stopping, seconds=_NOT_SENT_SECONDS)

    async def _report_outcomes(self) -> None:
        while True:
            batch = [await self._outcomes.get()]
            while len(batch) < _REPORT_LIMIT and not self._outcomes.empty():
                batch.append(self._outcomes.get_nowait())
            await self._report_batch(batch)

    async def _report_batch(self, batch: list[_Finished]) -> None:
        """Report together; if another transaction holds a row, one by one, and only that row keeps its slot waiting."""
        try:
            await self._report([outcome for outcome, _, _ in batch], max(ends for _, ends, _ in batch))
        except RowsLocked:
            if len(batch) > 1:
                for finished in batch:
                    await self._report_batch([finished])
            else:
                asyncio.get_running_loop().call_later(_LOCKED_SECONDS, self._outcomes.put_nowait, batch[0])
            return
        for _, _, recorded in batch:
            recorded.set()

    async def _report(self, outcomes: Sequence[Outcome], lease_ends: float) -> None:
        """Report until it is in the database. An error at COMMIT says nothing about it; a second report is harmless.

        Raises RowsLocked.
        """
        failures = _Backoff("reporting")
        while True:
            try:
                self._note(outcomes, await self._reports.record_reversal_outcomes(outcomes))
            except DatabaseUnavailable as error:
                if self._stopping.is_set() and boottime_seconds() > lease_ends:
                    for outcome in outcomes:
                        _log.error("outcome not reported: the lease has lapsed", **_facts(outcome))
                    return
                if isinstance(error, RowsLocked):
                    raise
                await asyncio.sleep(failures.next_delay(error))
            except Exception:  # whatever it is: were this task to end, every call would wait for ever
                await self._report_one_by_one(outcomes, lease_ends)
                return
            else:
                failures.over()
                return

    async def _report_one_by_one(self, outcomes: Sequence[Outcome], lease_ends: float) -> None:
        """A report that the database refuses takes no other with it; its lease lapses and its outcome is unknown."""
        for outcome in outcomes:
            try:
                # Once more also when it was alone: of two sessions that bring the same evidence, one is refused once.
                self._note([outcome], await self._reports.record_reversal_outcomes([outcome]))
            except DatabaseUnavailable:
                await self._report([outcome], lease_ends)
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
        failures = _Backoff("listening")
        while True:
            try:
                async for _ in listen(self._conninfo, f"seller-transfers listens {self._settings.worker}"[:63]):
                    failures.over()
                    self._notified.set()
            except DatabaseUnavailable as error:
                await asyncio.sleep(failures.next_delay(error))


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


class _Backoff:
    """Growing delays while something fails; says so when it begins and when it is over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._delay = 0.0

    def next_delay(self, error: Exception) -> float:
        """Seconds to wait after this failure."""
        if self._delay == 0.0 or not isinstance(error, DatabaseUnavailable):
            _log.warning(f"{self._what} fails", error=safe_text(str(error), 300))
        self._delay = min(max(self._delay * 2, _BACKOFF_FIRST_SECONDS), _BACKOFF_LAST_SECONDS)
        return self._delay

    def over(self) -> None:
        """It works."""
        if self._delay > 0.0:
            _log.info(f"{self._what} works again")
        self._delay = 0.0


async def _first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of the events is set, or for this long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*waits, return_exceptions=True)
