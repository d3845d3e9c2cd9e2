"""Runs the tests on copies of the checkout: one as it is, one per mutant.

A copy and not the checkout: its PostgreSQL loads the copy's SQL, and somebody may be working here. What a run leaves
behind is in one temporary folder.
"""

import asyncio
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.migration_files import file_sha256, released_file, released_sha256
from runner.sandbox.owned_process import owned_command
from tests.mutants.mutant import Mutant, NoMutant

CHECKOUT = Path(__file__).resolve().parents[2]

# The first two compare texts and schemas with what they were; the third is a linter, and one that stumbles over a bug
# says nothing of what the bug does.
_NO_JUDGES = ("tests/test_mutants.py", "tests/test_upgrade.py", "tests/test_plpgsql_check.py")
_NOT_COPIED = (
    ".git",
    ".venv",
    "__pycache__",
    ".cache",
    ".*_cache",
    ".hypothesis",
    ".sandbox",
    "build",
    "dist",
    "*.egg-info",
)
_LIKELY_SECONDS = 180.0
_SUITE_SECONDS = 600.0
_END_SECONDS = 20.0
_PYTEST_FAILED = (1, 2)  # 2 is xdist's for a run that -x cut short
# Bugs that PostgreSQL itself points at: a name that is not there, in a text that was not written with care.
_BROKEN = re.compile(r"psycopg\.errors\.(Undefined|Ambiguous|SyntaxError|DatatypeMismatch|WrongObjectType)")
_RED = re.compile(r"^(FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pytest: whether all was green, else the first test that was not, and what was printed."""

    is_green: bool
    failed: str | None
    error: str | None
    output: str

    @property
    def reason(self) -> str:
        """The first line of the first failure; if there was none, the last line of all."""
        said = [line[2:].strip() for line in self.output.splitlines() if line.startswith("E ")]
        return " ".join(said[:1] or self.output.splitlines()[-1:])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: the test that killed it; or what is wrong with it; or neither, and it survived.

    `reason` is the first line of that test's failure.
    """

    mutant: Mutant
    killed_by: str | None
    reason: str
    problem: str | None
    seconds: float


class SuiteIsRed(Exception):
    """The tests fail without any bug put in; the text is the end of what they printed."""


def read_run(status: int | None, output: str) -> Run:
    """Read what pytest printed; `status` is None if it did not end in time."""
    red = _RED.findall(output) if status in _PYTEST_FAILED else []
    # A node id has a "::"; without one it is a file that cannot even be imported.
    failed = next((test for word, test in red if word == "FAILED" and "::" in test), None)
    error = next((test for word, test in red if word == "ERROR"), None)
    return Run(status == 0, failed, error, output)


def copy_checkout(source: Path, target: Path, *, with_caches: bool) -> Path:
    """Copy what tests need. Compiled files are good for copies of copies, where every time is that of the original."""
    ignored = [pattern for pattern in _NOT_COPIED if not (with_caches and pattern == "__pycache__")]
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignored))
    return target


def _release_anew(folder: Path) -> None:
    """As if migrations had been released with their bug; that a file was edited is noticed whatever it does."""
    listed = (f"{file_sha256(folder, each)}  {each}.sql\n" for each in released_sha256(folder))
    released_file(folder).write_text("".join(listed), encoding="utf-8")


async def run_pytest(checkout: Path, arguments: Sequence[str], seconds: float) -> Run:
    """Run pytest in a checkout until the first failure."""
    options = ["-x", "-q", "--color=no", "--tb=short", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    process = await asyncio.create_subprocess_exec(
        *owned_command(command, death_signal=signal.SIGTERM),
        cwd=checkout,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = asyncio.create_task(process.communicate())
    try:
        output, _ = await asyncio.wait_for(asyncio.shield(printed), seconds)
    except TimeoutError:
        return read_run(None, (await _interrupted(process, printed)).decode(errors="replace"))
    except asyncio.CancelledError:
        await _interrupted(process, printed)
        raise
    return read_run(process.returncode, output.decode(errors="replace"))


async def _interrupted(process: asyncio.subprocess.Process, printed: "asyncio.Task[tuple[bytes, bytes]]") -> bytes:
    """Have pytest end what it started, or else end it; give what it printed."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    await asyncio.wait([printed], timeout=_END_SECONDS)
    if not printed.done():
        process.kill()
    return (await printed)[0]


class Harness:
    """Judges mutants, at most `jobs` at a time, in copies below `folder`; `is_quick`: by their likely tests alone."""

    def __init__(self, folder: Path, jobs: int, *, is_quick: bool) -> None:
        self._folder = folder
        self._jobs = jobs
        self._is_quick = is_quick
        self._clean = folder / "clean"

    async def judge(self, mutants: Sequence[Mutant], tell: Callable[[Verdict], None]) -> list[Verdict]:
        """Judge each, telling as they end; the verdicts are in the mutants' order. Raises SuiteIsRed."""
        await self._require_green(test for mutant in mutants for test in mutant.test_arguments)
        free = asyncio.Semaphore(self._jobs)

        async def judge_one(mutant: Mutant) -> Verdict:
            async with free:
                begun = time.monotonic()
                killer, problem = await self._judge_one(mutant)
                seconds = time.monotonic() - begun
            killed_by, reason = (None, "") if killer is None else (killer.failed or killer.error, killer.reason)
            verdict = Verdict(mutant, killed_by, reason, problem, seconds)
            tell(verdict)
            return verdict

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(judge_one(mutant)) for mutant in mutants]
        return [task.result() for task in tasks]

    async def _require_green(self, tests: Iterable[str]) -> None:
        copy_checkout(CHECKOUT, self._clean, with_caches=False)
        run = await run_pytest(self._clean, ["-n", str(self._jobs), *sorted(set(tests))], _SUITE_SECONDS)
        if not run.is_green:
            raise SuiteIsRed(run.output[-3000:])

    async def _judge_one(self, mutant: Mutant) -> tuple[Run | None, str | None]:
        """Give the run in which it was killed, or what is wrong with it."""
        checkout = copy_checkout(self._clean, self._folder / mutant.name, with_caches=True)
        try:
            mutant.apply(checkout)
            _release_anew(checkout / "db")
            return await self._first_red(checkout, mutant), None
        except NoMutant as problem:
            return None, str(problem)
        finally:
            shutil.rmtree(checkout, ignore_errors=True)

    async def _first_red(self, checkout: Path, mutant: Mutant) -> Run | None:
        likely = await run_pytest(checkout, mutant.test_arguments, _LIKELY_SECONDS)
        if _BROKEN.match(likely.reason):
            raise NoMutant(f"it does not run: {likely.reason}")
        if likely.failed is not None:
            return likely
        if not likely.is_green:
            # Not a test that fails but one that cannot begin: the schema does not load, a module is not imported.
            raise NoMutant(f"{likely.error or 'pytest'} does not run: {likely.reason}")
        if self._is_quick:
            return None
        judges = [f"--ignore={file}" for file in _NO_JUDGES]
        suite = await run_pytest(checkout, ["-n", str(self._jobs), *judges], _SUITE_SECONDS)
        if suite.is_green:
            return None
        red = suite.failed or suite.error
        if red is None:
            raise NoMutant(f"its tests see nothing, and the whole suite does not end: {suite.reason}")
        if not (await run_pytest(self._clean, [red], _LIKELY_SECONDS)).is_green:
            raise NoMutant(f"its tests see nothing, and {red} is red without it")
        return suite
