"""runner/worker.py: the loop, in this process, on a real database, with somebody else to make the calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import structlog

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.connection import SchemaUnusable, WrongAccount
from runner.database import Database as RunnerDatabase
from runner.kinds import KINDS, Kind
from runner.outcome import Outcome, StripeObject, not_sent
from runner.records import RecordedOutcome, StripeTask
from runner.settings import load_settings
from runner.worker import Worker
from tests.support.databases import Connect, Database, ServerAddress, open_database, rows, value
from tests.support.orders import set_delays
from tests.support.transfers import (
    attempts,
    claim,
    create_transfer,
    lapse_lease,
    record_transfer,
    refunded_transfer,
    refunded_transfers,
    request_parts,
    transfer,
)

NO_POLL = {"poll_seconds": 300}


def succeeded(call: StripeTask) -> Outcome:
    """Stripe did as it was asked."""
    assert call.stripe_transfer_id is not None
    reversal = StripeObject(
        id=call.stripe_transfer_id.replace("tr_", "trr_"),
        object="transfer_reversal",
        amount=call.amount,
        currency=call.currency,
        transfer=call.stripe_transfer_id,
    )
    return _outcome(call, http_status=200, object=reversal)


def sent(call: StripeTask) -> Outcome:
    """Stripe sent what it was asked to."""
    made = StripeObject(
        id=f"tr_sent{call.id}",
        object="transfer",
        amount=call.amount,
        currency=call.currency,
        destination=call.destination_account,
        metadata=dict(call.metadata or {}),
        amount_reversed=0,
    )
    return _outcome(call, http_status=200, object=made)


def locked(call: StripeTask) -> Outcome:
    """Stripe said to come back later."""
    return _outcome(call, http_status=429, error_type="invalid_request_error", error_code="lock_timeout")


def key_refused(call: StripeTask) -> Outcome:
    """Stripe does not take the key any more."""
    return _outcome(call, http_status=401, error_type="invalid_request_error", error_message="Expired API Key")


def found_nothing(call: StripeTask) -> Outcome:
    """Stripe has the transfer, and no reversal of it."""
    assert call.stripe_transfer_id is not None
    looked = StripeObject(
        id=call.stripe_transfer_id, object="transfer", amount=call.amount, currency=call.currency, amount_reversed=0
    )
    return _outcome(call, http_status=200, object=looked, found=())


def _outcome(call: StripeTask, **facts: object) -> Outcome:
    frame = Outcome(id=call.id, action=call.action, lease_token=call.lease_token, sent=True)
    return replace(frame, **facts)  # type: ignore[arg-type]  # each fact is of its own type


Answer = Callable[[StripeTask], Outcome]
ACCOUNT = Account("acct_1", livemode=False)


@dataclass
class Caller:
    """Makes no calls: answers as it is told, in the order of calls and after that always by `answer`."""

    answer: Answer = succeeded
    first_answers: list[Answer] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(10**6))
    calls: list[StripeTask] = field(default_factory=list)
    called_at: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    # What becomes of each look at the key, and after that always: an account or an exception.
    first_looks: list[Account | Exception] = field(default_factory=list)
    look: Account | Exception = ACCOUNT
    looks: int = 0
    look_gate: asyncio.Event | None = None

    async def check_account(self) -> Account:
        self.looks += 1
        if self.look_gate:
            await self.look_gate.wait()
        found = self.first_looks.pop(0) if self.first_looks else self.look
        if isinstance(found, Exception):
            raise found
        return found

    async def perform(self, call: StripeTask) -> Outcome:
        self.calls.append(call)
        self.called_at.append(time.monotonic())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        answer = self.first_answers.pop(0) if self.first_answers else self.answer
        if call.action == "send":
            answer = sent
        elif call.action != "reverse":
            answer = found_nothing
        await self.gate.acquire()
        self.under_way -= 1
        return answer(call)


async def until(happened: Callable[[], object], what: str, *, within_seconds: float = 10.0) -> None:
    """Look until `happened`, letting the worker work; raises AssertionError that names `what`."""
    end = time.monotonic() + within_seconds
    while not happened():
        assert time.monotonic() < end, f"not within {within_seconds:g} s: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def working(dsn: str, caller: Caller, **settings: Any) -> AsyncIterator[Worker]:
    """Run a worker for as long as the block lasts, and stop it as a signal would."""
    worker = worker_of(dsn, caller, **settings)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
        worker.stop()
        async with asyncio.timeout(10):
            await running
    finally:
        running.cancel()
        await asyncio.wait([running])


def worker_of(dsn: str, caller: Caller, *, kinds: Sequence[Kind] = KINDS, **settings: object) -> Worker:
    """A worker called blue."""
    ours = {
        "slots": 8,
        "lease_seconds": 20,
        "call_deadline_seconds": 10,
        "poll_seconds": 5,
        **settings,
        "worker": "blue",
    }
    environment = {f"SELLER_TRANSFERS_{name.upper()}": str(setting) for name, setting in ours.items()}
    return Worker(load_settings({"DATABASE_URL": dsn, **environment}, need_stripe=False), caller, kinds)


def reversed_rows(db: Database) -> int:
    return int(value(db, "select count(*) from marketplace.seller_transfers where status = 'reversed'"))


def completed_rows(db: Database) -> int:
    return int(value(db, "select count(*) from marketplace.seller_transfers where status = 'completed'"))


def listens(db: Database) -> list[int]:
    found = rows(
        db,
        "select pid from pg_stat_activity where application_name = 'seller-transfers listens blue'"
        " and state = 'idle' and query like 'LISTEN%%'",
    )
    return [session["pid"] for session in found]


def sleeps(db: Database) -> bool:
    """Whether it listens, and has long asked how long it may sleep: it does nothing now unless something wakes it."""
    asked = """
        select from pg_stat_activity
        where application_name = 'seller-transfers claims blue' and state = 'idle'
          and query like '%%next_due_in%%' and state_change < clock_timestamp() - interval '100 ms'
    """
    return bool(listens(db) and rows(db, asked))


async def test_there_are_never_more_calls_under_way_than_slots(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 20)

    async with working(dsn, caller, slots=3):
        await until(lambda: caller.under_way == 3, "the slots are filled")
        assert value(db, "select count(*) from marketplace.seller_transfers where lease_token is not null") == 3
        for _ in range(20):
            caller.gate.release()
        await until(lambda: reversed_rows(db) == 20, "all is reversed")

    assert (len(caller.calls), caller.most_under_way) == (20, 3)


async def test_a_slot_is_filled_again_while_the_others_are_still_busy(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 6)

    async with working(dsn, caller, slots=3):
        for done in range(1, 4):
            await until(lambda: caller.under_way == 3, "the slots are filled")
            caller.gate.release()
            await until(lambda done=done: reversed_rows(db) == done, "one more is reversed")  # type: ignore[misc]
        await until(lambda: caller.under_way == 3, "the slots are filled")
        assert len(caller.calls) == 6
        for _ in range(3):
            caller.gate.release()


async def test_a_kind_is_claimed_into_the_slots_that_those_before_it_left_and_reported_to_its_own(
    dsn: str, db: Database
) -> None:
    asked: list[tuple[str, int]] = []
    reported: list[tuple[str, int]] = []

    def noting(name: str, most: int) -> Kind:
        """Reversals, and what is asked and reported under this name; at most so many at a time."""

        async def claim(claims: RunnerDatabase, worker: str, limit: int, lease: timedelta) -> list[StripeTask]:
            asked.append((name, limit))
            return await claims.claim_due_reversals(worker, min(limit, most), lease)

        async def record(reports: RunnerDatabase, outcomes: Sequence[Outcome]) -> list[RecordedOutcome]:
            reported.extend((name, outcome.id) for outcome in outcomes)
            return await reports.record_reversal_outcomes(outcomes)

        return Kind("reversals", claim, record)

    kinds = [noting("first", 2), noting("second", 3), noting("third", 9)]
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 5)

    async with working(dsn, caller, slots=5, kinds=kinds, **NO_POLL):
        await until(lambda: caller.under_way == 5, "the slots are filled")
        assert asked == [("first", 5), ("second", 3)]
        for _ in range(5):
            caller.gate.release()
        await until(lambda: reversed_rows(db) == 5, "all is reversed")

    names = ["first", "first", "second", "second", "second"]
    assert sorted(reported) == sorted(zip(names, [call.id for call in caller.calls], strict=True))


async def test_transfers_are_sent_and_reversals_go_first_where_slots_are_short(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    to_send = [create_transfer(db, n)["id"] for n in (1, 2)]
    to_take_back = [refunded_transfer(db, n)["id"] for n in (3, 4, 5)]

    async with working(dsn, caller, slots=4, **NO_POLL):
        await until(lambda: caller.under_way == 4, "the slots are filled")
        assert [call.id for call in caller.calls] == [*to_take_back, to_send[0]]
        for _ in range(5):
            caller.gate.release()
        await until(lambda: completed_rows(db) == 2 and reversed_rows(db) == 3, "all is done")

    assert [call.id for call in caller.calls].count(to_send[1]) == 1


@pytest.mark.parametrize(("only", "done"), [("reversals", (0, 1)), ("transfers", (1, 0))])
async def test_a_worker_for_one_kind_leaves_the_other_alone_and_sleeps(
    dsn: str, db: Database, only: str, done: tuple[int, int]
) -> None:
    caller = Caller()
    create_transfer(db, 1)
    refunded_transfer(db, 2)

    async with working(dsn, caller, kinds=[kind for kind in KINDS if kind.name == only], **NO_POLL):
        await until(lambda: caller.calls, "its own is called for")
        await until(lambda: sleeps(db), "it sleeps, whatever of the other kind is due")

    assert (completed_rows(db), reversed_rows(db)) == done
    assert len(caller.calls) == 1


async def test_a_transfer_to_be_sent_wakes_the_worker_without_a_poll(dsn: str, db: Database) -> None:
    caller = Caller()

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: sleeps(db), "the worker sleeps")
        create_transfer(db)
        await until(lambda: completed_rows(db) == 1, "it is woken")


async def test_a_commit_wakes_the_worker_without_a_poll(dsn: str, db: Database) -> None:
    caller = Caller()

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: sleeps(db), "the worker sleeps")
        refunded_transfer(db)
        await until(lambda: reversed_rows(db) == 1, "it is woken")


async def test_a_row_is_called_for_when_its_time_has_come_without_a_poll(dsn: str, db: Database) -> None:
    caller = Caller()
    waiting = refunded_transfer(db)["id"]
    due_in_half_a_second = (
        "update marketplace.seller_transfers set next_retry_at = clock_timestamp() + interval '0.5 s'"
    )
    db.execute(due_in_half_a_second.encode())
    written_at = time.monotonic()

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: caller.calls, "its time has come")

    assert caller.calls[0].id == waiting
    assert 0.4 < caller.called_at[0] - written_at < 3


async def test_a_retry_of_its_own_is_not_slept_through(dsn: str, db: Database) -> None:
    caller = Caller(first_answers=[locked])
    set_delays(db, "throttled", "300 ms")
    gate = caller.gate = asyncio.Semaphore(0)
    refunded_transfer(db)

    async with working(dsn, caller, **NO_POLL):
        # The worker sleeps already, with nothing else to wait for, when it learns of the retry.
        await until(lambda: caller.calls and sleeps(db), "the call is under way and the worker sleeps")
        gate.release()
        gate.release()
        await until(lambda: reversed_rows(db) == 1, "it is called again")

    assert caller.called_at[1] - caller.called_at[0] > 0.25


async def test_a_lease_that_another_worker_lost_is_taken_over_in_time(dsn: str, db: Database) -> None:
    caller = Caller()
    refunded_transfer(db)
    claim(db, worker="dead", lease="600 ms")

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: reversed_rows(db) == 1, "the lease has lapsed and the row is done")

    assert [attempt["kind"] for attempt in attempts(db, caller.calls[0].id)] == ["lost_lease", "call", "call"]
    assert [call.action for call in caller.calls] == ["look_up_reversals", "reverse"]


async def test_a_part_is_called_for_as_soon_as_another_of_its_transfer_is_done(dsn: str, db: Database) -> None:
    def succeeded_once(call: StripeTask) -> Outcome:
        done = succeeded(call)
        assert done.object is not None
        return replace(done, object=replace(done.object, id=f"trr_of{call.id}"))

    async def called(times: int) -> None:
        await until(lambda: len(caller.calls) == times and sleeps(db), "one part's call, and nothing else")

    caller = Caller(succeeded_once, gate=asyncio.Semaphore(0))
    record_transfer(db)
    for n in range(2):
        request_parts(db, {"key-1": 100 + n}, f"re_{n}")

    async with working(dsn, caller, **NO_POLL):
        for times in range(1, 5):  # a look-up and a call for each; the leases outlast this test
            await called(times)
            caller.gate.release()
        await until(lambda: reversed_rows(db) == 2, "both parts are reversed")


async def test_the_poll_finds_work_where_nobody_can_listen(
    dsn: str, db: Database, server_address: ServerAddress
) -> None:
    caller = Caller()
    allow = f'alter database "{value(db, "select current_database()")}" allow_connections'

    with closing(open_database(server_address.dsn("postgres"))) as maintenance:
        async with working(dsn, caller, poll_seconds=0.3):
            await until(lambda: sleeps(db), "the worker sleeps")
            refunded_transfer(db, 1)
            await until(
                lambda: reversed_rows(db) == 1 and sleeps(db), "all its connections are made, and it sleeps again"
            )
            maintenance.execute(f"{allow} false".encode())
            rows(db, "select pg_terminate_backend(%(pid)s)", pid=listens(db)[0])
            await until(lambda: not listens(db), "nobody listens")
            refunded_transfer(db, 2)
            await until(lambda: reversed_rows(db) == 2, "the poll finds the row")
            assert listens(db) == []
        maintenance.execute(f"{allow} true".encode())


async def test_a_listener_that_is_cut_off_comes_back_and_has_missed_nothing(dsn: str, db: Database) -> None:
    caller = Caller()

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: sleeps(db), "the worker sleeps")
        (before,) = listens(db)
        # One transaction, so that the row is there when the listener is not.
        with db.transaction():
            rows(db, "select pg_terminate_backend(%(pid)s)", pid=before)
            refunded_transfer(db)
        await until(lambda: reversed_rows(db) == 1, "the row is found")
        await until(lambda: listens(db) not in ([], [before]), "somebody listens again")


async def count_claims(dsn: str, db: Database, at_least: int, seconds: float, **settings: object) -> int:
    """How often a worker claims in this long, once that many claims have come to the statistics.

    They are complete when its sessions have ended, but for PostgreSQL 14, whose sessions only send them off then.
    """
    name = value(db, "select current_database()")
    db.execute(f"alter database \"{name}\" set track_functions = 'pl'".encode())
    ours = "select from pg_stat_activity where application_name like '%% blue'"
    async with working(dsn, Caller(), **settings):
        await until(lambda: rows(db, ours), "it works")
        await asyncio.sleep(seconds)  # nothing is waited for: this is how long it is watched
    await until(lambda: not rows(db, ours), "its sessions end")
    counted = "select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = 'claim_due_reversals'"
    await until(lambda: value(db, counted) >= at_least, "the claims are counted")
    return int(value(db, counted))


async def test_an_idle_worker_claims_no_more_often_than_it_polls(dsn: str, db: Database) -> None:
    claims = await count_claims(dsn, db, at_least=3, seconds=1.0, poll_seconds=0.25)

    # Four polls of a quarter of a second, one at the beginning, one when it is told that it listens.
    assert claims <= 7


async def test_a_row_that_is_due_and_cannot_be_had_is_not_hammered(dsn: str, db: Database, connect: Connect) -> None:
    refunded_transfer(db)
    other = connect(autocommit=False)
    rows(other, "select from marketplace.seller_transfers for update")

    claims = await count_claims(dsn, db, at_least=5, seconds=1.0, **NO_POLL)

    # The database says "due now", a claim gets nothing: at least 50 ms pass before the next.
    assert claims <= 23


async def test_an_empty_bucket_is_not_hammered(dsn: str, db: Database) -> None:
    refunded_transfer(db)
    rows(db, "select * from marketplace.set_stripe_rate(0.1, 'a test')")
    db.execute("update marketplace.stripe_control set tokens = 0")

    claims = await count_claims(dsn, db, at_least=1, seconds=1.0, **NO_POLL)

    # One at the beginning, one when it is told that it listens, and few more on a slow machine; the next token is ten
    # seconds away. Without a wait there would be twenty.
    assert claims <= 6


async def test_every_token_is_used_without_a_poll(dsn: str, db: Database) -> None:
    caller = Caller()
    refunded_transfers(db, 12)
    rows(db, "select * from marketplace.set_stripe_rate(20, 'a test', 2)")
    db.execute("update marketplace.stripe_control set tokens = 2")

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: reversed_rows(db) == 12, "all is reversed")

    assert value(db, "select max(started_at) - min(started_at) from marketplace.transfer_attempts") >= timedelta(
        seconds=10 / 20
    )


async def test_a_call_that_was_not_made_is_not_tried_again_at_once(dsn: str, db: Database) -> None:
    caller = Caller(first_answers=[lambda call: not_sent(call, "no time left")] * 2)
    refunded_transfer(db)

    async with working(dsn, caller, slots=1):
        await until(lambda: reversed_rows(db) == 1, "it is made in the end")

    assert len(caller.calls) == 3
    assert [attempt["kind"] for attempt in attempts(db, caller.calls[0].id)] == ["not_sent", "not_sent", "call"]
    assert caller.called_at[2] - caller.called_at[0] > 1.5


async def test_a_report_that_is_refused_takes_no_other_with_it(dsn: str, db: Database) -> None:
    def garbled(call: StripeTask) -> Outcome:
        return replace(succeeded(call), lease_token="not a uuid")

    caller = Caller(gate=asyncio.Semaphore(0), first_answers=[succeeded, succeeded, garbled, succeeded])
    refunded_transfers(db, 5)

    async with working(dsn, caller, slots=5, **NO_POLL):
        await until(lambda: caller.under_way == 5, "all are under way")
        for _ in range(8):
            caller.gate.release()
        await until(lambda: reversed_rows(db) == 4, "the others are recorded")
        # Its slot is free again, and its row is what any row is whose worker says nothing.
        lapse_lease(db, caller.calls[2].id)
        refunded_transfer(db, 6)
        await until(lambda: reversed_rows(db) == 6, "the worker goes on")

    assert [attempt["kind"] for attempt in attempts(db, caller.calls[2].id)] == ["lost_lease", "call", "call"]


async def test_a_row_that_somebody_holds_open_keeps_no_slot_but_its_own(
    dsn: str, db: Database, connect: Connect
) -> None:
    """An app that forgot to commit, or a DBA with `for update`, must not stop everybody's money."""
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 12)
    holder = connect()
    async with working(dsn, caller, slots=4):
        await until(lambda: len(caller.calls) == 4, "four calls under way")
        held = caller.calls[1].id
        with holder.transaction():
            holder.execute("select from marketplace.seller_transfers where id = %s for update", [held])
            for _ in range(100):
                caller.gate.release()
            await until(lambda: reversed_rows(db) == 11, "the other rows reversed", within_seconds=20)
            assert transfer(db, held)["status"] == "reversal_pending"
        await until(lambda: reversed_rows(db) == 12, "the held one too")

    assert [call.id for call in caller.calls].count(held) == 1
    assert [attempt["disposition"] for attempt in attempts(db, held)] == ["applied"]


async def test_no_transaction_is_open_while_a_call_is_under_way(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 2)

    async with working(dsn, caller, slots=2):
        await until(lambda: caller.under_way == 2, "calls are under way")
        held = (
            "select from pg_stat_activity where application_name like 'seller-transfers%%' and xact_start is not null"
        )
        await until(lambda: not rows(db, held), "no session of the worker is in a transaction")
        caller.gate.release()
        caller.gate.release()


async def test_stopping_waits_for_what_is_under_way_and_records_it(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfers(db, 3)

    async with working(dsn, caller, slots=2) as worker:
        await until(lambda: caller.under_way == 2, "the slots are filled")
        worker.stop()
        caller.gate.release()
        await until(lambda: reversed_rows(db) == 1, "one is recorded")
        assert caller.under_way == 1
        caller.gate.release()

    assert (len(caller.calls), reversed_rows(db)) == (2, 2)
    left = value(db, "select id from marketplace.seller_transfers where status = 'reversal_pending'")
    assert transfer(db, left)["lease_token"] is None
    sessions = "select from pg_stat_activity where application_name like '%% blue'"
    await until(lambda: not rows(db, sessions), "its sessions are closed")


# What a database does that is migrated to a later release under a runner: its functions return something more.
ANOTHER_RELEASE = """
drop function marketplace.{signature};
create function marketplace.{signature} returns table (id bigint, novelty text)
language sql as 'select 1::bigint, version()'
"""


def migrate_to_another_release(db: Database, signature: str) -> None:
    for statement in ANOTHER_RELEASE.format(signature=signature).split(";"):
        db.execute(statement.encode())


async def test_a_claim_of_another_release_ends_the_worker_when_its_calls_are_done(dsn: str, db: Database) -> None:
    caller = Caller(gate=asyncio.Semaphore(0))
    refunded_transfer(db)

    async def work_until_it_ends() -> None:
        async with working(dsn, caller, poll_seconds=0.1):
            await until(lambda: caller.under_way == 1, "a call is under way")
            migrate_to_another_release(db, "claim_due_reversals(p_worker text, p_limit integer, p_lease interval)")
            caller.gate.release()
            await until(lambda: not listens(db), "the worker has ended")

    with pytest.raises(SchemaUnusable):
        await work_until_it_ends()
    assert reversed_rows(db) == 1


async def test_a_report_to_another_release_is_given_up_and_the_slot_is_free(dsn: str, db: Database) -> None:
    caller = Caller()

    async with working(dsn, caller, slots=1, **NO_POLL):
        await until(lambda: sleeps(db), "the worker sleeps")
        migrate_to_another_release(db, "record_reversal_outcomes(p_outcomes jsonb)")
        refunded_transfers(db, 2)
        await until(lambda: len(caller.calls) == 2, "the second call is made in the only slot")


def registered(db: Database) -> dict[str, object]:
    found = rows(db, "select stripe_account, livemode, ended_at from marketplace.runners where worker = 'blue'")
    return dict(found[0]) if found else {}


def end_registration(db: Database) -> None:
    db.execute("delete from marketplace.runners where worker = 'blue'")


async def test_a_runner_registers_before_it_claims(dsn: str, db: Database) -> None:
    caller = Caller(look=Account(None, livemode=True))
    refunded_transfer(db)

    async with working(dsn, caller):
        await until(lambda: reversed_rows(db) == 1, "it works")

    assert registered(db) == {"stripe_account": None, "livemode": True, "ended_at": None}
    assert caller.looks == 1


async def test_a_stripe_that_is_down_at_start_is_waited_for(dsn: str, db: Database) -> None:
    caller = Caller(first_looks=[StripeUnreachable("no answer")] * 3)
    refunded_transfer(db)

    with structlog.testing.capture_logs() as logged:
        async with working(dsn, caller):
            await until(lambda: reversed_rows(db) == 1, "it works")

    assert caller.looks == 4
    events = [entry["event"] for entry in logged]
    assert events[:2] == ["cannot register; trying again until it works", "running"]


@pytest.mark.parametrize("looks", [{"look": StripeUnreachable("no answer")}, {"look_gate": asyncio.Event()}])
async def test_waiting_for_stripe_ends_when_the_runner_is_stopped(dsn: str, looks: dict[str, Any]) -> None:
    caller = Caller(**looks)

    async with working(dsn, caller):  # which stops it
        await until(lambda: caller.looks > 0, "it asks whose key it is")

    assert caller.calls == []


@pytest.mark.parametrize(
    ("look", "refused"),
    [(KeyRefused("Stripe refuses the key"), KeyRefused), (Account("acct_1Other", livemode=False), WrongAccount)],
)
async def test_a_runner_that_may_not_register_at_start_ends(
    dsn: str, db: Database, look: Account | Exception, refused: type[Exception]
) -> None:
    rows(db, "select * from marketplace.register_runner('first', '1.0', 'acct_1', false)")

    with pytest.raises(refused):
        async with asyncio.timeout(10):
            await worker_of(dsn, Caller(look=look)).run()


async def test_a_key_that_is_refused_later_is_tried_until_it_is_good_again(dsn: str, db: Database) -> None:
    caller = Caller(first_answers=[key_refused])

    with structlog.testing.capture_logs() as logged:
        async with working(dsn, caller, **NO_POLL):
            await until(lambda: sleeps(db), "the worker sleeps")
            caller.first_looks = [KeyRefused("Stripe refuses the key")] * 3
            refunded_transfer(db)
            await until(lambda: reversed_rows(db) == 1, "the key is good again and the row is done")

    assert [attempt["http_status"] for attempt in attempts(db, caller.calls[0].id)] == [401, 200]
    said = [(entry["log_level"], entry["event"]) for entry in logged if "regist" in entry["event"]]
    assert said == [("warning", "cannot register; trying again until it works"), ("info", "registered again")]


async def test_the_wrong_account_found_later_is_told_as_an_error_and_waited_out(dsn: str, db: Database) -> None:
    caller = Caller()

    with structlog.testing.capture_logs() as logged:
        async with working(dsn, caller, **NO_POLL):
            await until(lambda: sleeps(db), "the worker sleeps")
            caller.look = Account("acct_1Other", livemode=False)
            end_registration(db)
            refunded_transfer(db)
            await until(lambda: caller.looks >= 4, "it tries again and again")
            assert caller.calls == []
            caller.look = ACCOUNT
            await until(lambda: reversed_rows(db) == 1, "it is the right one again")

    said = [(entry["log_level"], entry["event"]) for entry in logged if "regist" in entry["event"]]
    assert said == [("error", "cannot register; trying again until it works"), ("info", "registered again")]


async def test_a_key_that_is_accepted_and_then_refused_is_not_tried_without_end(dsn: str, db: Database) -> None:
    """Each registration brings the next trial call forward: these must not chase each other."""
    caller = Caller(answer=key_refused)
    refunded_transfer(db)

    async with working(dsn, caller, **NO_POLL):
        await until(lambda: len(caller.calls) == 5, "four trial calls are made")

    waited = [after - before for before, after in pairwise(caller.called_at)]
    assert all(seconds > least for seconds, least in zip(waited, (0.1, 0.2, 0.4, 0.8), strict=True))
