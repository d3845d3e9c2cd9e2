"""The runners of a seed, and who watches over them: what ends is started again, as systemd or Kubernetes would."""

import json
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.plan import Plan
from tests.support.runners import Runner, spawn_runner, wait_until_listening

# Killed; asked to end, perhaps twice, perhaps before it could listen to that; the database or Stripe could not be used
# at the start.
_FAIR_EXITS = (-signal.SIGKILL, 0, 128 + signal.SIGTERM, -signal.SIGTERM, 3, 5)
# What a runner logs only if it, or the database, is wrong about something.
_BAD_EVENTS = ("outcome refused by the database", "call unfit", "action unknown", "Stripe's SDK failed")


@dataclass(slots=True)
class _Place:
    """One of the runners there are to be; `starts` counts the processes there have been."""

    name: str
    starts: int = 0
    renames: int = 0
    runner: Runner | None = None


@dataclass(slots=True)
class Crew:
    """As many runners as the plan says, their logs in `folder`, a file per process."""

    plan: Plan
    dsn: str
    stripe_base: str
    folder: Path
    kills: int = 0
    trouble: list[str] = field(default_factory=list)
    _places: list[_Place] = field(default_factory=list)
    _logs: list[Path] = field(default_factory=list)
    _alarms: list[threading.Timer] = field(default_factory=list)

    def start(self) -> None:
        """Start them all; waits for nothing."""
        self._places = [_Place(f"runner-{number}") for number in range(self.plan.runners)]
        self.tend()

    def tend(self) -> None:
        """Start those again that have ended."""
        for place in self._places:
            if place.runner is not None:
                code = place.runner.process.poll()
                if code is None:
                    continue
                if code not in _FAIR_EXITS:
                    self.trouble.append(f"{place.runner.log_file.name} ended with {code}")
            self._spawn(place)

    def kill(self, number: int, *, new_name: bool) -> None:
        """Kill -9, also one that is paused."""
        self._end(number, signal.SIGKILL, new_name=new_name)
        self.kills += 1

    def end(self, number: int, *, new_name: bool) -> None:
        """Ask it to finish what it is at and end."""
        self._end(number, signal.SIGTERM, new_name=new_name)

    def pause(self, number: int, seconds: float) -> None:
        """Have a runner stand still, and go on after that time."""
        runner = self._places[number].runner
        if runner is None or runner.process.poll() is not None:
            return
        runner.send(signal.SIGSTOP)
        # In a thread: a pause must not be longer than planned because the main thread starts a database.
        alarm = threading.Timer(seconds, runner.send, [signal.SIGCONT])
        alarm.start()
        self._alarms.append(alarm)

    def wait_until_awake(self) -> None:
        """Wait until nobody stands still any more."""
        for alarm in self._alarms:
            alarm.join()

    def wait_until_at_work(self, dsn: str) -> None:
        """Wait until every one of them listens, as seen over `dsn`."""
        for place in self._places:
            # One that began while the database was away has ended, or will.
            while True:
                self.tend()
                assert place.runner is not None
                try:
                    wait_until_listening(dsn, place.runner)
                except AssertionError:
                    if place.runner.process.poll() is None:
                        raise
                else:
                    break

    def close(self) -> None:
        """Kill them all."""
        self.wait_until_awake()
        runners = [place.runner for place in self._places if place.runner is not None]
        for runner in runners:
            runner.process.kill()
        for runner in runners:
            runner.process.wait()

    def complaints(self) -> list[str]:
        """Give what the logs hold that should be in none."""
        found: Counter[str] = Counter()
        for log in self._logs:
            for line in log.read_text(errors="replace").splitlines():
                complaint = _complaint(line)
                if complaint:
                    found[f"{log.name}: {complaint}"] += 1
        return [f"{what} ({times} times)" if times > 1 else what for what, times in found.items()]

    def _spawn(self, place: _Place) -> None:
        times = self.plan.times
        log = self.folder / f"{place.name}.{place.starts}.log"
        place.starts += 1
        self._logs.append(log)
        place.runner = spawn_runner(
            self.dsn,
            self.stripe_base,
            log,
            worker=place.name,
            slots=self.plan.slots,
            lease_seconds=times.lease,
            call_deadline_seconds=times.call_deadline,
            poll_seconds=0.3,
        )

    def _end(self, number: int, what: signal.Signals, *, new_name: bool) -> None:
        place = self._places[number]
        if place.runner is not None and place.runner.process.poll() is None:
            place.runner.send(what)
        if new_name:
            place.renames += 1
            place.name = f"runner-{number}-{place.renames}"


def _complaint(line: str) -> str | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        # Python's own words, or a start that failed, which says so in a line of the command's.
        return None if line.startswith("seller-transfers: ") or not line.strip() else line[:200]
    if entry.get("event") in _BAD_EVENTS or "exception" in entry:
        return line[:400]
    return None
