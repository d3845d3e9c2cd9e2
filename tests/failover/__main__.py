"""`python -m tests.failover --seeds 1..10 --orders 20`: one seed after the other, a line each."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from runner.sandbox.demo_folder import leave_out_settings
from tests.failover.plan import make_plan
from tests.failover.seed import run_seed


@click.command()
@click.option("--seeds", default="1..10", show_default=True, help="A seed, or a range of them.")
@click.option("--orders", type=click.IntRange(1, 500), default=20, show_default=True, help="Orders per seed.")
def main(seeds: str, orders: int) -> None:
    """Have a standby take over that has not heard everything, in the middle of work, and compare the books.

    Exit code 1 if a seed has a finding: they are printed, and the folder with the runners' logs.
    """
    leave_out_settings(os.environ)
    first, dots, last = seeds.partition("..")
    failed = False
    for seed in range(int(first), int(last if dots else first) + 1):
        folder = Path(tempfile.mkdtemp(prefix=f"seller-transfers-failover-{seed}-"))
        begun = time.monotonic()
        found = run_seed(seed, orders, folder)
        plan = make_plan(seed, orders)
        lost = f"{len(plan.lost)} of {len(plan.heard) + len(plan.lost)} calls of the app lost"
        seconds = f"{time.monotonic() - begun:.0f} s"
        if found:
            failed = True
            click.echo("\n".join(found))
            click.echo(f"seed {seed}: {lost}; {seconds}: FAILED, {len(found)} findings; logs: {folder}")
        else:
            shutil.rmtree(folder)
            click.echo(f"seed {seed}: {lost}; {seconds}: ok")
    sys.exit(failed)


if __name__ == "__main__":
    main()
