"""What batching of reports is worth."""

import time

from psycopg.rows import DictRow

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database
from tests.support.transfers import claim, record, refunded_transfers, success

ROWS = 1000
BATCH = 100


def measure(server: EmbeddedPostgres) -> None:
    """Reports: record_reversal_outcomes, one outcome or a hundred at a time, one session."""
    with fresh_database(server, "record") as (_, db):
        refunded_transfers(db, 2 * ROWS + BATCH)
        _record(db, claim(db, BATCH), BATCH)
        db.execute("vacuum analyze")  # autovacuum would have, by the time there is much to do
        singly = _record(db, claim(db, ROWS), 1)
        batched = _record(db, claim(db, ROWS), BATCH)
    say("one at a time", singly, "rows/s")
    say(f"{BATCH} at a time", batched, "rows/s", f"{batched / singly:.1f} times as many")


def _record(db: Database, calls: list[DictRow], batch: int) -> float:
    """Rows a second."""
    reports = [success(call) for call in calls]
    begun = time.monotonic()
    for start in range(0, len(reports), batch):
        recorded = record(db, *reports[start : start + batch])
        assert {each["result"] for each in recorded} == {"applied"}
    return len(reports) / (time.monotonic() - begun)


if __name__ == "__main__":
    run_benchmarks(measure)
