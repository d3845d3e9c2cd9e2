"""How long a refund waits for its call on an idle machine."""

import statistics
import tempfile
import time
from pathlib import Path

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database, rows
from tests.support.orders import calls_for, open_rows, pay_sellers
from tests.support.runners import runners, wait_until

ROUNDS = 50
GOAL_MILLISECONDS = 15


def measure(server: EmbeddedPostgres) -> None:
    """Wake-up: from COMMIT of request_reversal to the request at Stripe."""
    with (
        fresh_database(server, "wake_up") as (dsn, db),
        simulator_process() as stripe,
        tempfile.TemporaryDirectory() as folder,
        runners(dsn, stripe.base_url, Path(folder)) as start_runner,
    ):
        start_runner(poll_seconds=300)
        waited = sorted(_one_round(db, stripe, f"n{n}") for n in range(ROUNDS))
    median = statistics.median(waited)
    verdict = "reached" if median <= GOAL_MILLISECONDS else "MISSED"
    say(f"median of {ROUNDS}", median, "ms", f"goal {GOAL_MILLISECONDS} ms: {verdict}")
    say("nine of ten within", waited[ROUNDS * 9 // 10], "ms")


def _one_round(db: Database, stripe: SimulatorClient, name: str) -> float:
    """Milliseconds from sending COMMIT to the request; the runner sleeps before and after."""
    (transfer,) = pay_sellers(db, stripe, name)
    wait_until(lambda: _sleeps(db), "the runner sleeps")
    with db.transaction():
        rows(
            db,
            "select * from marketplace.request_reversal(%(order)s, %(request)s)",
            order=f"order-{name}",
            request=f"re_{name}",
        )
        committing_at = time.monotonic()
    wait_until(lambda: open_rows(db) == 0, "the call is made")
    return (calls_for(stripe, transfer)[0].arrived_monotonic - committing_at) * 1000


def _sleeps(db: Database) -> bool:
    """Whether the runner has long asked how long it may sleep."""
    asked = """
        select from pg_stat_activity
        where application_name = 'seller-transfers claims blue' and state = 'idle'
          and query like '%%next_due_in%%' and state_change < clock_timestamp() - interval '20 ms'
    """
    return bool(rows(db, asked))


if __name__ == "__main__":
    run_benchmarks(measure)
