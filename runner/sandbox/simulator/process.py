"""The simulator as a child process."""

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .client import SimulatorClient

_ANNOUNCEMENT = "listening on "
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class SimulatorNotStarted(Exception):
    """The child process ended, or did not say where it listens, in time."""


@contextmanager
def simulator_process(*, port: int = 0, faults: Path | None = None) -> Iterator[SimulatorClient]:
    """Run a simulator until the end of the block and give its client; `.base_url` is where Stripe is.

    The child dies with us, even if we are killed: to be exact, with the *thread* that started it. Ctrl-C does not reach
    it, so that it still answers while we shut down. Its errors go to our standard error. Raises SimulatorNotStarted.
    """
    command = [sys.executable, "-m", __package__ or "", "--port", str(port)]
    if faults is not None:
        command += ["--faults", str(faults)]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, process_group=0
    )
    with child:
        try:
            yield SimulatorClient(_announced_url(child))
        finally:
            child.terminate()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _announced_url(child: "subprocess.Popen[str]") -> str:
    output: IO[str] | None = child.stdout
    assert output is not None  # noqa: S101 - it is a pipe
    ready, _, _ = select.select([output], [], [], _START_SECONDS)
    line = output.readline().strip() if ready else ""
    if not line.startswith(_ANNOUNCEMENT):
        raise SimulatorNotStarted(f"it said {line!r} where '{_ANNOUNCEMENT}…' was expected")
    return line.removeprefix(_ANNOUNCEMENT)
