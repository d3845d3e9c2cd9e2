"""How fast runners get through a heap of work."""

import tempfile
import time
from pathlib import Path

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database
from tests.support.orders import open_rows, pay_sellers, refund
from tests.support.runners import runners, wait_until

ROWS = 1000
# About what Stripe takes to answer, so that the slots matter.
STRIPE_SECONDS = 0.05


def measure(server: EmbeddedPostgres) -> None:
    """Drain: 1,000 refunds over HTTP, each answered after 50 ms, 16 slots a runner."""
    one = _drain(server, ["blue"])
    two = _drain(server, ["blue", "green"])
    say("one runner", ROWS / one, "rows/s", f"its slots allow {16 / STRIPE_SECONDS:.0f}")
    say("two runners", ROWS / two, "rows/s", f"{one / two:.2f} times one")


def _drain(server: EmbeddedPostgres, workers: list[str]) -> float:
    """Seconds from the commit of the refunds to the last row."""
    with (
        fresh_database(server, "drain") as (dsn, db),
        simulator_process() as stripe,
        tempfile.TemporaryDirectory() as folder,
        runners(dsn, stripe.base_url, Path(folder)) as start_runner,
    ):
        names = _paid(db, stripe)
        for worker in workers:
            start_runner(worker, slots=16, log_level="warning")
        stripe.add_fault("delay", seconds=STRIPE_SECONDS, match={"method": "POST"}, times=None)
        refund(db, *names)
        begun = time.monotonic()
        wait_until(lambda: open_rows(db) == 0, "all is reversed", within_seconds=60)
        return time.monotonic() - begun


def _paid(db: Database, stripe: SimulatorClient) -> list[str]:
    names = [f"n{n}" for n in range(ROWS)]
    pay_sellers(db, stripe, *names)
    return names


if __name__ == "__main__":
    run_benchmarks(measure)
