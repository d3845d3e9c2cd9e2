"""Ten thousand deliveries, good, repeated, cut, forged, stale and malformed: exactly the good must be stored.

`python -m tests.benchmarks.forged_deliveries`; SEED=… for others, COUNT=… for more. Exit code 1 if it is otherwise.
The suite sends 600 of the same (tests/test_webhook.py).
"""

import os
import sys
import tempfile
from pathlib import Path

import click

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.benchmarks.setting import fresh_database, run_benchmarks
from tests.support.forgeries import deliver_all
from tests.support.inbox import stored
from tests.support.webhooks import SECRET, endpoint

COUNT = int(os.environ.get("COUNT", "10000"))
SEED = int(os.environ.get("SEED", "20261122"))


def measure(server: EmbeddedPostgres) -> None:
    """Forged deliveries: every answer, and what is stored in the end."""
    with fresh_database(server, "forged") as (dsn, db), tempfile.TemporaryDirectory() as folder:
        with endpoint(dsn, Path(folder)) as at:
            outcome = deliver_all(at.port, COUNT, seed=SEED, secret=SECRET)
        found = stored(db)
    for kind, count in outcome.kinds.most_common():
        click.echo(f"  {count:>6} {kind}")
    click.echo(f"  {len(found):>6} events stored, {len(outcome.good)} were good; seed {SEED}")
    for surprise in outcome.surprises[:20]:
        click.echo(f"  SURPRISE: {surprise}")
    if outcome.surprises or found != outcome.good:
        sys.exit(1)


if __name__ == "__main__":
    run_benchmarks(measure)
