"""The demo's way to Stripe's events: a real process of `python -m runner webhook`, and of `catch-up` for the rest."""

import json
import secrets
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from runner.sandbox.demo_programs import Program, ProgramFailed, start_program, stop_programs
from runner.sandbox.simulator import TEST_KEY

_PATH = "/stripe/events"
_START_SECONDS = 20.0
_CATCH_UP_SECONDS = 30.0
_PAUSE_SECONDS = 0.02


class Webhook:
    """A webhook on a free port of this machine, started at once; `url` is what to have deliveries sent to.

    A context manager: at its end it is gone. To be used in the main thread.
    """

    def __init__(self, database_url: str, folder: Path) -> None:
        self.secret = f"whsec_{secrets.token_hex(16)}"
        self._settings = {"DATABASE_URL": database_url, "SELLER_TRANSFERS_LOG_FORMAT": "json"}
        self._folder = folder
        ours = {"STRIPE_WEBHOOK_SECRET": self.secret, "SELLER_TRANSFERS_WEBHOOK_PORT": "0"}
        self.program = start_program("webhook", ["webhook", "--path", _PATH], {**self._settings, **ours}, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_programs([self.program], at_once=kind is not None)

    def wait_for_url(self) -> str:
        """Give the address to deliver to, once it listens. Raises ProgramFailed."""
        until = time.monotonic() + _START_SECONDS
        while (port := _port(self.program)) is None:
            self.program.check()
            if time.monotonic() > until:
                raise ProgramFailed(f"the webhook does not listen after {_START_SECONDS:g} s; see {self.program.log}")
            time.sleep(_PAUSE_SECONDS)
        return f"http://127.0.0.1:{port}{_PATH}"

    def catch_up(self, stripe_base: str, since: datetime) -> tuple[str, str]:
        """Run `catch-up` to its end; gives the command as it is typed and what it said. Raises ProgramFailed."""
        moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        arguments = ["catch-up", "--since", moment]
        stripe = {"STRIPE_API_KEY": TEST_KEY, "SELLER_TRANSFERS_STRIPE_API_BASE": stripe_base}
        program = start_program("catch-up", arguments, {**self._settings, **stripe}, self._folder)
        try:
            status = program.process.wait(_CATCH_UP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"catch-up is not done after {_CATCH_UP_SECONDS:g} s; see {program.log}") from None
        finally:
            program.kill()
        if status != 0:
            raise ProgramFailed(f"catch-up ended with exit status {status}; {program.log} ends: {program.last_line()}")
        return f"seller-transfers {' '.join(arguments)}", program.last_line()


def _port(program: Program) -> int | None:
    """Where it listens, by its log; None as long as it does not."""
    for line in program.log.read_text(errors="replace").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            logged = json.loads(line)
            if logged.get("event") == "listening":
                return int(logged["port"])
    return None
