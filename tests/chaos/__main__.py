"""`python -m tests.chaos --seeds 1..20 --rows 60`: a process per seed, as many at once as there is room for."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from runner.sandbox.demo_folder import leave_out_settings
from runner.sandbox.owned_process import owned_command
from tests.chaos.plan import make_plan
from tests.chaos.seed import run_seed

_SEED_SECONDS = 300.0


def _seeds(_ctx: click.Context, _param: click.Parameter, value: str) -> range:
    """Read `7`, or `1..20`."""
    first, dots, last = value.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a seed nor a range such as 1..20") from None
    if not seeds:
        raise click.BadParameter(f"there is no seed in {value!r}")
    return seeds


@click.command()
@click.option("--seeds", callback=_seeds, default="1..20", show_default=True, help="A seed, or a range of them.")
@click.option("--rows", type=click.IntRange(4, 1000), default=60, show_default=True, help="Transfers per seed.")
@click.option("--jobs", type=click.IntRange(1), help="Seeds at once; half of the processors unless given.")
@click.option("--minutes", type=click.FloatRange(0), help="Begin no more seeds after that time.")
@click.option("--verbose", is_flag=True, help="Print the plans.")
def main(seeds: range, rows: int, jobs: int | None, minutes: float | None, verbose: bool) -> None:
    """Let everything go wrong at once, at random and repeatably, then compare the books.

    A line per seed on standard output. Exit code 1 if one has a finding: that prints its plan and all there is to know
    about the rows concerned, and names the folder with the logs.
    """
    leave_out_settings(os.environ)
    if verbose:
        for seed in seeds:
            click.echo("\n".join(make_plan(seed, rows).lines()))
    if len(seeds) == 1:
        sys.exit(_run_one(seeds[0], rows))
    sys.exit(_run_all(seeds, rows, jobs or max(1, (os.cpu_count() or 2) // 2), minutes))


def _run_one(seed: int, rows: int) -> int:
    # A signal to end is an exception: nothing that was started is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix=f"seller-transfers-chaos-{seed}-"))
    try:
        report = run_seed(seed, rows, folder)
    except BaseException:
        click.echo(f"seed {seed} did not come to its end; logs: {folder}", err=True)
        raise
    for note in report.notes:
        click.echo(f"seed {seed}: {note}")
    if report.findings:
        click.echo(f"{report.text}logs: {folder}\n{report.line}: FAILED, {len(report.findings)} findings")
        return 1
    shutil.rmtree(folder)
    click.echo(f"{report.line}: ok")
    return 0


@dataclass(slots=True)
class _Running:
    seed: int
    process: "subprocess.Popen[str]"
    output: Path
    until: float


def _run_all(seeds: range, rows: int, jobs: int, minutes: float | None) -> int:
    """Run a process per seed; it is our child, and ends with us."""
    last_start = time.monotonic() + (minutes if minutes is not None else 1e6) * 60
    waiting = list(seeds)
    running: list[_Running] = []
    done: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while running or (waiting and time.monotonic() < last_start):
                while waiting and len(running) < jobs and time.monotonic() < last_start:
                    running.append(_start(waiting.pop(0), rows, Path(folder)))
                for each in _ended(running):
                    running.remove(each)
                    click.echo(each.output.read_text(), nl=False)
                    done[each.seed] = each.process.wait()
        finally:
            for each in running:
                each.process.terminate()
            for each in running:
                each.process.wait()
    failed = [seed for seed, status in sorted(done.items()) if status != 0]
    verdict = f"failed: {', '.join(map(str, failed))}" if failed else "none failed"
    click.echo(f"{len(done)} seeds, {verdict}" + (f"; {len(waiting)} not begun" if waiting else ""))
    return 1 if failed else 0


def _start(seed: int, rows: int, folder: Path) -> _Running:
    command = [sys.executable, "-m", "tests.chaos", "--seeds", str(seed), "--rows", str(rows)]
    output = folder / str(seed)
    with output.open("w") as file:
        process = subprocess.Popen(
            owned_command(command, death_signal=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return _Running(seed, process, output, time.monotonic() + _SEED_SECONDS)


def _ended(running: list[_Running]) -> list[_Running]:
    """Wait for the next one to end; one that hangs is made to."""
    descriptors = {os.pidfd_open(each.process.pid): each for each in running}
    try:
        patience = max(0.0, min(each.until for each in running) - time.monotonic())
        ready, _, _ = select.select(list(descriptors), [], [], patience)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if not ready:
        for each in running:
            if time.monotonic() >= each.until:
                each.process.kill()
    return [descriptors[descriptor] for descriptor in ready]


if __name__ == "__main__":
    main()
