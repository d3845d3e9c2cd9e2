"""Runners as people run them: processes with an environment and a log. None outlives its test."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runner.sandbox.owned_process import owned_command
from runner.sandbox.simulator import TEST_KEY
from tests.support.databases import open_session

REPOSITORY = Path(__file__).resolve().parents[2]

_PAUSE_SECONDS = 0.02
_START_SECONDS = 30.0
# Long enough for no test to meet them by chance; a test that is about one of them sets it.
_SETTINGS = {"slots": 8, "lease_seconds": 20, "call_deadline_seconds": 10, "poll_seconds": 5, "log_format": "json"}


def wait_until(
    happened: Callable[[], object], what: str, *, within_seconds: float = 15.0, pause_seconds: float = _PAUSE_SECONDS
) -> None:
    """Look until `happened`; raises AssertionError that names `what`."""
    until = time.monotonic() + within_seconds
    while not happened():
        assert time.monotonic() < until, f"not within {within_seconds:g} s: {what}"
        time.sleep(pause_seconds)


@dataclass(frozen=True, slots=True)
class Runner:
    """A `seller-transfers run` under way, or ended."""

    worker: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """What it has logged so far, oldest first; only lines of this event, if one is named."""
        lines = self.log_file.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return [entry for entry in entries if event in (None, entry["event"])]

    def wait_for(self, event: str, *, count: int = 1) -> None:
        """Wait until it has logged this `count` times."""
        wait_until(lambda: len(self.log(event)) >= count, f"{self.worker} logs {event!r} {count} times")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self, *, within_seconds: float = 15.0) -> int:
        """Wait for its end. A signal that ended it counts negative."""
        return self.process.wait(within_seconds)


class StartRunner(Protocol):
    """Starts runners; `settings` by their names without prefix, in any case, the Stripe `key`, and `--only` this kind.

    Without `wait` it may not listen yet.
    """

    def __call__(
        self,
        worker: str = "blue",
        *,
        wait: bool = True,
        key: str | None = None,
        only: str | None = None,
        **settings: object,
    ) -> Runner: ...


@contextmanager
def runners(dsn: str, stripe_base: str, folder: Path, *, key: str = TEST_KEY) -> Iterator[StartRunner]:
    """Give a way to start runners on a database and a Stripe; all are killed at the end of the block.

    Starting returns when the runner listens, unless told not to wait. Their logs are in `folder`, a file per worker.
    """
    started: list[Runner] = []

    usual_key = key

    def start(
        worker: str = "blue",
        *,
        wait: bool = True,
        key: str | None = None,
        only: str | None = None,
        **settings: object,
    ) -> Runner:
        log_file = folder / f"{worker}.log"
        runner = spawn_runner(dsn, stripe_base, log_file, worker=worker, key=key or usual_key, only=only, **settings)
        started.append(runner)
        if wait:
            wait_until_listening(dsn, runner)
        return runner

    try:
        yield start
    finally:
        for runner in started:
            runner.process.kill()
        for runner in started:
            runner.process.wait()


def spawn_runner(
    dsn: str,
    stripe_base: str,
    log_file: Path,
    *,
    worker: str,
    key: str = TEST_KEY,
    only: str | None = None,
    **settings: object,
) -> Runner:
    """Start a runner and wait for nothing. It ends with us at the latest."""
    ours = {"stripe_api_base": stripe_base, **_SETTINGS, **settings, "worker": worker}
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "STRIPE_API_KEY": key,
        **{f"SELLER_TRANSFERS_{name.upper()}": str(setting) for name, setting in ours.items()},
    }
    run = [sys.executable, "-m", "runner", "run", *(("--only", only) if only else ())]
    command = owned_command(run, death_signal=signal.SIGKILL)
    with log_file.open("wb") as log:
        # Nothing is to come on stdout; what does is no line of a log, and noticed.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
        )
    return Runner(worker, process, log_file)


def wait_until_listening(dsn: str, runner: Runner) -> None:
    """Wait until the database shows that it listens."""
    with closing(open_session(dsn)) as db:

        def listens() -> bool:
            assert runner.process.poll() is None, f"{runner.worker} ended: {runner.log_file.read_text()}"
            found = db.execute(
                "select from pg_stat_activity where datname = current_database() and application_name = %s"
                " and state = 'idle' and query like 'LISTEN%%'",
                [f"seller-transfers listens {runner.worker}"],
            )
            return found.rowcount == 1

        wait_until(listens, f"{runner.worker} listens", within_seconds=_START_SECONDS)
