"""The demo's runners: real processes of `python -m runner run`."""

from pathlib import Path
from types import TracebackType
from typing import Self

from runner.sandbox.demo_programs import Program, start_program, stop_programs
from runner.sandbox.simulator import TEST_KEY

LEASE_SECONDS = 4
CALL_DEADLINE_SECONDS = 2.5


class Runners:
    """Runners on one database and one simulator. A context manager: at its end none is left.

    To be used in the main thread; the runners end with this process, however it ends.
    """

    def __init__(self, database_url: str, stripe_base: str, folder: Path) -> None:
        self.running: list[Program] = []
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

    def start(self) -> Program:
        """Start one more, with a log file of its own. Its name is what the database knows it by."""
        self._started += 1
        name = f"runner-{self._started}"
        settings = {**self._settings, "SELLER_TRANSFERS_WORKER": name}
        self.running.append(start_program(name, ["run"], settings, self._folder))
        return self.running[-1]

    def kill(self, name: str) -> Program:
        """End that runner with SIGKILL: it cannot finish or report anything any more."""
        runner = next(runner for runner in self.running if runner.name == name)
        runner.kill()
        self.running.remove(runner)
        return runner

    def check(self) -> None:
        """Raise ProgramFailed if one is gone."""
        for runner in self.running:
            runner.check()

    def stop(self, *, at_once: bool = False) -> None:
        """Have all of them finish what is in flight and end; `at_once`: just end."""
        stopping, self.running = self.running, []
        stop_programs(stopping, at_once=at_once)
