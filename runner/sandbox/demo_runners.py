"""The demo's runners: real processes of `python -m runner run`, with an environment made for them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from runner.sandbox.owned_process import owned_command
from runner.sandbox.simulator import TEST_KEY

LEASE_SECONDS = 4
CALL_DEADLINE_SECONDS = 2.5

_STOP_SECONDS = 5.0
# What a Python program needs of the environment; everything else might be meant for real work.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR")


class RunnerEnded(Exception):
    """A runner ended without being told to; the text says which, how, and where its log is."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner process; `name` is what the database knows it by."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid


class Runners:
    """Runners on one database and one simulator. A context manager: at its end none is left.

    To be used in the main thread; the runners end with this process, however it ends.
    """

    def __init__(self, database_url: str, stripe_base: str, folder: Path) -> None:
        self.running: list[Runner] = []
        self._settings = {
            "DATABASE_URL": database_url,
            "STRIPE_API_KEY": TEST_KEY,
            "SELLER_TRANSFERS_STRIPE_API_BASE": stripe_base,
            "SELLER_TRANSFERS_SLOTS": "8",
            "SELLER_TRANSFERS_LEASE_SECONDS": str(LEASE_SECONDS),
            "SELLER_TRANSFERS_CALL_DEADLINE_SECONDS": str(CALL_DEADLINE_SECONDS),
            "SELLER_TRANSFERS_POLL_SECONDS": "1",
            "SELLER_TRANSFERS_LOG_FORMAT": "console",
        }
        self._folder = folder
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(at_once=kind is not None)

    def start(self) -> Runner:
        """Start one more, with a log file of its own."""
        self._started += 1
        name = f"runner-{self._started}"
        log = self._folder / f"{name}.log"
        environment = {**_kept(os.environ), **self._settings, "SELLER_TRANSFERS_WORKER": name}
        command = owned_command([sys.executable, "-m", "runner", "run"], death_signal=signal.SIGKILL)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us
            )
        self.running.append(Runner(name, process, log))
        return self.running[-1]

    def kill(self, name: str) -> Runner:
        """End that runner with SIGKILL: it cannot finish or report anything any more."""
        runner = next(runner for runner in self.running if runner.name == name)
        runner.process.kill()
        runner.process.wait()
        self.running.remove(runner)
        return runner

    def check(self) -> None:
        """Raise RunnerEnded if one is gone."""
        for runner in self.running:
            status = runner.process.poll()
            if status is not None:
                lines = runner.log.read_text(errors="replace").splitlines() or ["(nothing)"]
                raise RunnerEnded(f"{runner.name} ended with exit status {status}; {runner.log} ends: {lines[-1]}")

    def stop(self, *, at_once: bool = False) -> None:
        """Have all of them finish what is in flight and end; `at_once`: just end."""
        stopping, self.running = self.running, []
        for runner in stopping:
            runner.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
        for runner in stopping:
            try:
                runner.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                runner.process.kill()
                runner.process.wait()


def _kept(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _KEPT if name in environ}
