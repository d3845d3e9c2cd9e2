"""How much of the rate budget runners get out of it, and whether Stripe ever says that it is too much."""

import os
import tempfile
import time
from pathlib import Path

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database, rows
from tests.support.orders import open_rows, pay_sellers, refund
from tests.support.runners import runners, wait_until

ROWS = int(os.environ.get("ROWS", "1000"))
RATE, BURST = 20, 5  # as shipped
STRIPE_RATE = 25
STRIPE_SECONDS = 0.25
GOAL = 1.05


def measure(server: EmbeddedPostgres) -> None:
    """Budget: refunds at 20 calls a second, by one runner and by four; Stripe takes 25 a second and 250 ms."""
    for workers in (["blue"], ["blue", "green", "red", "white"]):
        ratio, refused = _drain(server, workers)
        verdict = "reached" if ratio <= GOAL and refused == 0 else "MISSED"
        say(
            f"{len(workers)} runner{'s' if len(workers) > 1 else ''}, {ROWS:,} rows",
            ratio,
            "times the budget's own time",
            f"{refused} times 429; goal {GOAL} and none: {verdict}",
        )


def _drain(server: EmbeddedPostgres, workers: list[str]) -> tuple[float, int]:
    """Seconds from the refunds' commit to the last row, over what the budget asks for; and how many calls got a 429."""
    with (
        fresh_database(server, "budget") as (dsn, db),
        simulator_process() as stripe,
        tempfile.TemporaryDirectory() as folder,
        runners(dsn, stripe.base_url, Path(folder)) as start_runner,
    ):
        names = [f"n{n}" for n in range(ROWS)]
        pay_sellers(db, stripe, *names)
        for worker in workers:
            start_runner(worker, slots=16, log_level="warning")
        seconds = _seconds_to_drain(db, stripe, names)
        calls = stripe.requests(method="POST")
    return seconds / ((ROWS - BURST) / RATE + STRIPE_SECONDS), len([call for call in calls if call.status == 429])


def _seconds_to_drain(db: Database, stripe: SimulatorClient, names: list[str]) -> float:
    stripe.add_fault("delay", seconds=STRIPE_SECONDS, match={"method": "POST"}, times=None)
    stripe.set_limits(STRIPE_RATE, burst=STRIPE_RATE)
    rows(db, "select * from marketplace.set_stripe_rate(%(rate)s, 'a benchmark', %(burst)s)", rate=RATE, burst=BURST)
    begun = time.monotonic()
    refund(db, *names)
    wait_until(lambda: open_rows(db) == 0, "all is reversed", within_seconds=60 + 2 * ROWS / RATE)
    return time.monotonic() - begun


if __name__ == "__main__":
    run_benchmarks(measure)
