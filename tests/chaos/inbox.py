"""The way of Stripe's events in a seed: a real `seller-transfers webhook` that is killed and started again, and
`catch-up` for what it missed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from runner.sandbox.owned_process import owned_command
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.runners import REPOSITORY, wait_until

_SECRET = "whsec_4c8e0f6b1d2a4b719f3e"
_PATH = "/stripe/events"
# As it is ended, and when the database cannot be used at the start.
_FAIR_EXITS = (-signal.SIGKILL, -signal.SIGTERM, 0, 3)
_CATCH_UP_SECONDS = 60.0


@dataclass(slots=True)
class Inbox:
    """A webhook that reaches the database over `dsn`, its logs in `folder`, a file per process."""

    dsn: str
    simulator: SimulatorClient
    folder: Path
    seed: int
    kills: int = 0
    trouble: list[str] = field(default_factory=list)
    _begun: int = field(default_factory=lambda: int(time.time()) - 5)
    _port: int = 0
    _starts: int = 0
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and have Stripe deliver there: not everything, some of it twice, and in another order."""
        self.tend()
        wait_until(self._listens, "the webhook listens")
        self.simulator.add_endpoint(
            f"http://127.0.0.1:{self._port}{_PATH}",
            _SECRET,
            drop=0.15,
            duplicate=0.25,
            delay_seconds=0.5,
            reorder=5,
            timeout_seconds=2.0,
            attempts=12,
            seed=self.seed,
        )

    def tend(self) -> None:
        """Start it again if it has ended."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            # The port may be somebody else's for a moment.
            if code not in _FAIR_EXITS and "in use" not in self._log.read_text(errors="replace"):
                self.trouble.append(f"{self._log.name} ended with {code}")
        self._starts += 1
        settings = {"STRIPE_WEBHOOK_SECRET": _SECRET, "SELLER_TRANSFERS_WEBHOOK_PORT": str(self._port)}
        self._process = self._spawn(["webhook", "--path", _PATH], settings)

    def end(self, *, at_once: bool) -> None:
        """Kill it; or, not `at_once`, ask it to end."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            self.kills += 1

    def catch_up(self) -> str:
        """Wait for what is being delivered, then read at Stripe what was not; gives what it said at the end."""
        self.simulator.wait_until_delivered(within_seconds=30.0)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._begun))
        self._starts += 1
        process = self._spawn(
            ["catch-up", "--since", since],
            {"STRIPE_API_KEY": TEST_KEY, "SELLER_TRANSFERS_STRIPE_API_BASE": self.simulator.base_url},
        )
        try:
            code = process.wait(_CATCH_UP_SECONDS)
        finally:
            process.kill()
            process.wait()
        said = self._log.read_text(errors="replace")
        # 1: something is kept, and is found in the database.
        if code not in (0, 1) or "ended early" in said or "not taken" in said:
            self.trouble.append(f"{self._log.name}: {said[-300:]}")
        return said

    def close(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _log(self) -> Path:
        return self.folder / f"inbox.{self._starts}.log"

    def _listens(self) -> bool:
        for line in self._log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n") and json.loads(line).get("event") == "listening":
                self._port = int(json.loads(line)["port"])
                return True
        self.tend()
        return False

    def _spawn(self, arguments: list[str], settings: dict[str, str]) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "DATABASE_URL": self.dsn, "SELLER_TRANSFERS_LOG_FORMAT": "json", **settings}
        command = owned_command([sys.executable, "-m", "runner", *arguments], death_signal=signal.SIGKILL)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
            )
