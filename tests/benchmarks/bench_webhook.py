"""Whether the webhook endpoint keeps up with 500 events a second, on two cores, and loses none.

Beside it, in the same run: an endpoint that only verifies, which is what HTTP costs, and rows committed one by one over
as many connections, which is what keeping anything costs. Afterwards deliveries go on, to see whether memory grows.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.owned_process import owned_command
from tests.benchmarks.deliveries import Deliveries, prepare, say_what_they_came_to
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database, open_database, value
from tests.support.runners import REPOSITORY
from tests.support.webhooks import PATH, EndpointProcess, endpoint, signature

RATE = int(os.environ.get("RATE", "500"))
SECONDS = int(os.environ.get("SECONDS", "30"))
FLAT_OUT_SECONDS = 5
# In all, before memory is looked at a second time.
DELIVERIES = int(os.environ.get("DELIVERIES", "100000"))
SENDERS = 32
# As many as the endpoint has, unless told otherwise.
CONNECTIONS = 8
COMMITS = 1000
# The program and its database on two cores, who delivers on the others.
SERVER_CORES, SENDER_CORES = {0, 1}, {2, 3}

_COMMITS = f"""
do $$
begin
  for v_n in 1..{COMMITS} loop
    insert into committed values (gen_random_uuid()::text, repeat(gen_random_uuid()::text, 83));
    commit;
  end loop;
end $$
"""


def measure(server: EmbeddedPostgres) -> None:
    """Webhook: deliveries of 3 kB at a steady rate and flat out, endpoint and PostgreSQL together on two cores."""
    pinned = (os.cpu_count() or 1) >= len(SERVER_CORES | SENDER_CORES)
    with _bare_endpoint(pinned=pinned) as port:
        bare = asyncio.run(_flat_out(port, Deliveries(1)))
    with (
        fresh_database(server, "webhook") as (dsn, db),
        tempfile.TemporaryDirectory() as folder,
        _on_cores(_postgres_pids(db), SERVER_CORES, wanted=pinned),
        _on_cores([0], SENDER_CORES, wanted=pinned),
    ):
        commits = _commit_rate(dsn)
        deliveries = Deliveries(prepare(db, RATE * (SECONDS + 4 * FLAT_OUT_SECONDS)))
        before = _stored(db)
        with endpoint(dsn, Path(folder)) as at:
            if pinned:
                _pin(at.runner.process.pid, SERVER_CORES)
            asyncio.run(_flat_out(at.port, deliveries, seconds=1))  # connections are made, functions are planned
            cpu = _cpu_seconds(at.runner.process.pid), sum(map(_cpu_seconds, _postgres_pids(db)))
            latencies, answers, elapsed = asyncio.run(_steadily(at.port, deliveries))
            endpoint_busy = _cpu_seconds(at.runner.process.pid) - cpu[0]
            postgres_busy = sum(map(_cpu_seconds, _postgres_pids(db))) - cpu[1]
            full = asyncio.run(_flat_out(at.port, deliveries))
            memory = _grown_memory(at, db, deliveries)
            at.runner.send(signal.SIGTERM)
            assert at.runner.exit_code() == 0
        lost = len(deliveries.taken) - (_stored(db) - before)
        rate = len(latencies) / elapsed
        reached = rate >= 0.99 * RATE and set(answers) == {200} and not lost
        cores = f"{len(SERVER_CORES)} cores" if pinned else "all cores: too few to set some apart"
        note = f"{dict(answers)}, {lost} lost; goal {RATE}: {'reached' if reached else 'MISSED'}"
        say(f"steadily, {SECONDS} s, {cores}", rate, "events/s", note)
        say("  half within", latencies[len(latencies) // 2] * 1000, "ms")
        say("  99 of 100 within", latencies[len(latencies) * 99 // 100] * 1000, "ms")
        spent = 1000 * (endpoint_busy + postgres_busy) / len(latencies)
        share = f"{100 * endpoint_busy / (endpoint_busy + postgres_busy):.0f} % of it the endpoint's; room for"
        say("  processor time per event", spent, "ms", f"{share} {len(SERVER_CORES) * 1000 / spent:,.0f} events/s")
        say_what_they_came_to(db)
    say("flat out", full, "events/s", f"{SENDERS} senders")
    for what, megabytes, note in memory:
        say(what, megabytes, "MB", note)
    say("an endpoint that only verifies, flat out", bare, "events/s", f"{bare / full:.1f} times as many")
    say(
        f"rows of 3 kB, committed by {CONNECTIONS} connections",
        commits,
        "rows/s",
        f"{commits / full:.1f} times as many",
    )


async def _deliver(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    async with session.post(url, data=body, headers={"Stripe-Signature": signature(body)}) as answer:
        await answer.read()
        return answer.status


async def _steadily(port: int, deliveries: Deliveries) -> tuple[list[float], Counter[int], float]:
    """Deliver at the rate, whatever comes back; latencies count from when each was due."""
    url, latencies, answers = f"http://127.0.0.1:{port}{PATH}", [], Counter[int]()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        begun = time.monotonic()

        async def one(due: float, event_id: str, body: bytes) -> None:
            status = await _deliver(session, url, body)
            answers[status] += 1
            if status == 200:
                deliveries.taken.add(event_id)
            latencies.append(time.monotonic() - due)

        for number in range(RATE * SECONDS):
            due = begun + number / RATE
            event_id, body = deliveries.next()
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            tasks.create_task(one(due, event_id, body))
    return sorted(latencies), answers, max(time.monotonic() - begun, SECONDS)


async def _flat_out(
    port: int, deliveries: Deliveries, seconds: float = FLAT_OUT_SECONDS, until: int | None = None
) -> float:
    """Deliver as fast as it goes, for some seconds or until there were so many in all."""
    url, taken = f"http://127.0.0.1:{port}{PATH}", 0
    begun = time.monotonic()

    async def sender(session: aiohttp.ClientSession) -> None:
        nonlocal taken
        while time.monotonic() < begun + seconds if until is None else deliveries.given < until:
            event_id, body = deliveries.next()
            if await _deliver(session, url, body) == 200:
                taken += 1
                deliveries.taken.add(event_id)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(SENDERS):
            tasks.create_task(sender(session))
    return taken / (time.monotonic() - begun)


def _grown_memory(at: EndpointProcess, db: Database, deliveries: Deliveries) -> list[tuple[str, float, str]]:
    """What endpoint and PostgreSQL have of memory of their own, after these deliveries and after those to come."""

    def taken() -> list[float]:
        return [_own_megabytes(at.runner.process.pid), sum(map(_own_megabytes, _postgres_pids(db)))]

    first, before = deliveries.given, taken()
    asyncio.run(_flat_out(at.port, deliveries, until=DELIVERIES))
    note = f"after {deliveries.given:,} deliveries; {{:.1f}} after {first:,}"
    what = "memory of the endpoint", "memory of PostgreSQL's processes, but for what they share"
    return list(zip(what, taken(), map(note.format, before), strict=True))


def _own_megabytes(pid: int) -> float:
    """Resident memory that is neither a file's nor shared."""
    resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGESIZE") / 1e6


def _commit_rate(dsn: str) -> float:
    """Rows a second that PostgreSQL stores, each in a transaction of its own, with no client to wait for."""

    def commit() -> None:
        with closing(open_database(dsn)) as db:
            db.execute(_COMMITS)

    with closing(open_database(dsn)) as db:
        db.execute("create table committed (row_id text primary key, body text)")
    begun = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for committed in [pool.submit(commit) for _ in range(CONNECTIONS)]:
            committed.result()
    return CONNECTIONS * COMMITS / (time.monotonic() - begun)


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
