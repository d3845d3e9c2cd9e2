"""The demo's programs: real processes of `python -m runner …`, with an environment made for them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.owned_process import owned_command

_STOP_SECONDS = 5.0
# What a Python program needs of the environment; everything else might be meant for real work.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR")


class ProgramFailed(Exception):
    """A program ended without being told to, or did not do its work; the text says which, how, and where its log is."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process of ours under a name, and where it logs."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def check(self) -> None:
        """Raise ProgramFailed if it is gone."""
        status = self.process.poll()
        if status is not None:
            raise ProgramFailed(f"{self.name} ended with exit status {status}; {self.log} ends: {self.last_line()}")

    def last_line(self) -> str:
        """The end of its log."""
        return (self.log.read_text(errors="replace").splitlines() or ["(nothing)"])[-1]

    def kill(self) -> None:
        """End it with SIGKILL: it cannot finish or report anything any more."""
        self.process.kill()
        self.process.wait()


def start_program(name: str, arguments: Sequence[str], settings: Mapping[str, str], folder: Path) -> Program:
    """Start `python -m runner` with these arguments and settings, with a log file of its own in `folder`.

    To be called in the main thread; the program ends with this process, however it ends.
    """
    log = folder / f"{name}.log"
    command = owned_command([sys.executable, "-m", "runner", *arguments], death_signal=signal.SIGKILL)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**_kept(os.environ), **settings},
            start_new_session=True,  # Ctrl-C is for us
        )
    return Program(name, process, log)


def stop_programs(programs: Sequence[Program], *, at_once: bool) -> None:
    """Have all of them finish what is in flight and end; `at_once`: just end."""
    for program in programs:
        program.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
    for program in programs:
        try:
            program.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()


def _kept(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _KEPT if name in environ}
