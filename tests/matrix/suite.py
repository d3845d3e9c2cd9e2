"""One run of the suite on one server, and what came of it."""

import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.owned_process import owned_command
from tests.matrix.servers import Server

_CHECKOUT = Path(__file__).resolve().parents[2]
_SUITE_SECONDS = 1800.0
_END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """Of the suite on one major: how many tests went how, or what the `problem` is; left out is not red."""

    major: int
    version: str = "-"
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str | None = None
    is_red: bool = False


def run_suite(server: Server, arguments: Sequence[str], report: Path) -> Result:
    """Run pytest on the server with these arguments; what it prints is for whoever looks on."""
    ours = [f"--postgres-bin={server.bindir}", f"--junitxml={report}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *ours, *arguments]
    begun = time.monotonic()
    process = subprocess.Popen(
        owned_command(command, death_signal=signal.SIGTERM), cwd=_CHECKOUT, stdin=subprocess.DEVNULL
    )
    try:
        status = process.wait(_SUITE_SECONDS)
    except subprocess.TimeoutExpired:
        problem = f"it did not end within {_SUITE_SECONDS:.0f} s"
        return Result(server.major, server.version, problem=problem, is_red=True)
    finally:
        _end(process)
    return read_report(server, status, report, time.monotonic() - begun)


def read_report(server: Server, status: int, report: Path, seconds: float) -> Result:
    """Count what pytest wrote down; its exit status has the last word."""
    try:
        suite = next(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError, StopIteration):
        problem = f"pytest ended with {status} and no report"
        return Result(server.major, server.version, seconds=seconds, problem=problem, is_red=True)
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = max(0, count["tests"] - failed - count["skipped"])
    return Result(server.major, server.version, passed, failed, count["skipped"], seconds, is_red=status != 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have pytest end what it started, or else end it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        process.kill()
        process.wait()


def table(results: Sequence[Result]) -> str:
    """The results as a person reads them, a line per major."""
    lines = ["PostgreSQL  version  passed  failed  skipped  seconds"]
    for each in results:
        if each.problem is None:
            counts = f"{each.passed:6}  {each.failed:6}  {each.skipped:7}  {each.seconds:7.0f}"
        else:
            counts = f"{'FAILED' if each.is_red else 'left out'}: {each.problem}"
        lines.append(f"{each.major:10}  {each.version:<7}  {counts}")
    return "\n".join(lines)
