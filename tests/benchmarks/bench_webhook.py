"""Whether the webhook endpoint keeps up with 500 events a second, on two cores, and loses none."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.owned_process import owned_command
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database, value
from tests.support.runners import REPOSITORY
from tests.support.webhooks import PATH, encoded, endpoint, event, signature

RATE = int(os.environ.get("RATE", "500"))
SECONDS = int(os.environ.get("SECONDS", "30"))
FLAT_OUT_SECONDS = 5
SENDERS = 32
# The program and its database on two cores, who delivers on the others.
SERVER_CORES, SENDER_CORES = {0, 1}, {2, 3}


def measure(server: EmbeddedPostgres) -> None:
    """Webhook: deliveries of 3 kB at a steady rate and flat out, endpoint and PostgreSQL together on two cores."""
    pinned = (os.cpu_count() or 1) >= len(SERVER_CORES | SENDER_CORES)
    with _bare_endpoint(pinned=pinned) as port:
        bare = asyncio.run(_flat_out(port))
    with (
        fresh_database(server, "webhook") as (dsn, db),
        tempfile.TemporaryDirectory() as folder,
        _on_cores(_postgres_pids(db), SERVER_CORES, wanted=pinned),
        _on_cores([0], SENDER_CORES, wanted=pinned),
        endpoint(dsn, Path(folder)) as at,
    ):
        if pinned:
            _pin(at.runner.process.pid, SERVER_CORES)
        before = _cpu_seconds(at.runner.process.pid)
        latencies, answers, elapsed = asyncio.run(_steadily(at.port))
        busy = _cpu_seconds(at.runner.process.pid) - before
        stored = _stored(db)
        full = asyncio.run(_flat_out(at.port))
        at.runner.send(signal.SIGTERM)
        assert at.runner.exit_code() == 0
        lost = answers[200] + full.total - _stored(db)
    rate = len(latencies) / elapsed
    verdict = "reached" if rate >= 0.99 * RATE and answers == Counter({200: stored}) and not lost else "MISSED"
    cores = f"{len(SERVER_CORES)} cores" if pinned else "all cores: too few to set some apart"
    say(f"steadily, {SECONDS} s, {cores}", rate, "events/s", f"{dict(answers)}, {lost} lost; goal {RATE}: {verdict}")
    say("  half within", latencies[len(latencies) // 2] * 1000, "ms")
    say("  99 of 100 within", latencies[len(latencies) * 99 // 100] * 1000, "ms")
    say("  the endpoint's share of one core", 100 * busy / elapsed, "%")
    say("flat out", full.rate, "events/s", f"{SENDERS} senders")
    say("an endpoint that only verifies, flat out", bare.rate, "events/s", f"{bare.rate / full.rate:.1f} times as many")


class _FlatOut:
    """How many were taken, and in how long."""

    def __init__(self, total: int, seconds: float) -> None:
        self.total = total
        self.rate = total / seconds


_numbers = count(1)


def _body() -> bytes:
    """An event of the size of a charge's, new each time, in which half are of a kind that is acted on."""
    number = next(_numbers)
    noise = {f"field_{n}": f"some text of a length that is usual {n}" for n in range(40)}
    refund = {"id": f"re_{number}", "object": "refund", "status": "pending", "charge": f"ch_{number}", **noise}
    customer = {"id": f"cus_{number}", "object": "customer", **noise}
    fields: dict[str, Any] = {"event_type": "customer.updated", "data": {"object": customer}}
    if number % 2:
        fields = {"event_type": "refund.updated", "data": {"object": refund}}
    return encoded(event(f"evt_{number}", **fields))


async def _deliver(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    async with session.post(url, data=body, headers={"Stripe-Signature": signature(body)}) as answer:
        await answer.read()
        return answer.status


async def _steadily(port: int) -> tuple[list[float], Counter[int], float]:
    """Deliver at the rate, whatever comes back; latencies count from when each was due."""
    url, latencies, answers = f"http://127.0.0.1:{port}{PATH}", [], Counter[int]()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        begun = time.monotonic()

        async def one(due: float, body: bytes) -> None:
            status = await _deliver(session, url, body)
            answers[status] += 1
            latencies.append(time.monotonic() - due)

        for number in range(RATE * SECONDS):
            due = begun + number / RATE
            body = _body()
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            tasks.create_task(one(due, body))
    return sorted(latencies), answers, max(time.monotonic() - begun, SECONDS)


async def _flat_out(port: int) -> _FlatOut:
    """Deliver as fast as it goes."""
    url, taken = f"http://127.0.0.1:{port}{PATH}", 0
    begun = time.monotonic()

    async def sender(session: aiohttp.ClientSession) -> None:
        nonlocal taken
        while time.monotonic() < begun + FLAT_OUT_SECONDS:
            status = await _deliver(session, url, _body())
            taken += status == 200

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(SENDERS):
            tasks.create_task(sender(session))
    return _FlatOut(taken, time.monotonic() - begun)


def _stored(db: Database) -> int:
    return int(value(db, "select count(*) from marketplace.stripe_events"))


@contextmanager
def _bare_endpoint(*, pinned: bool) -> Iterator[int]:
    command = owned_command([sys.executable, "-m", "tests.benchmarks.bare_endpoint"], death_signal=signal.SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if pinned:
                _pin(process.pid, SERVER_CORES)
            with _on_cores([0], SENDER_CORES, wanted=pinned):
                yield port
        finally:
            process.kill()


def _postgres_pids(db: Database) -> list[int]:
    """The server and its processes; those to come are its children."""
    backend = db.info.backend_pid
    server = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [server, *map(int, children)]


@contextmanager
def _on_cores(pids: list[int], cores: set[int], *, wanted: bool) -> Iterator[None]:
    before = {pid: os.sched_getaffinity(pid) for pid in pids}
    if wanted:
        for pid in pids:
            os.sched_setaffinity(pid, cores)
    try:
        yield
    finally:
        for pid, usual in before.items():
            if pid == 0 or Path(f"/proc/{pid}").exists():
                os.sched_setaffinity(pid, usual)


def _pin(pid: int, cores: set[int]) -> None:
    """Every thread of that process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    run_benchmarks(measure)
