"""Requests that wait for a command: those held on their way, and those that were put off."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from .calls import Call


@dataclass(frozen=True, slots=True)
class Held:
    """A request that stands still at `stage` ("before" executing or "after" committing)."""

    name: str
    stage: str
    call: Call
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Holds:
    """Where held requests stand, in the order they came to a halt."""

    def __init__(self) -> None:
        self.standing: list[Held] = []

    async def wait(self, name: str, stage: str, call: Call, seconds: float) -> None:
        """Stand until released, or until `seconds` are over."""
        held = Held(name, stage, call)
        self.standing.append(held)
        try:
            async with asyncio.timeout(seconds):
                await held.released.wait()
        except TimeoutError:
            pass
        finally:
            if held in self.standing:
                self.standing.remove(held)

    def release(self, name: str | None, count: int | None = None) -> int:
        """Let the first `count` of `name` go on (null: all of any name); gives how many."""
        going = [held for held in self.standing if name in (None, held.name)][:count]
        for held in going:
            self.standing.remove(held)
            held.released.set()
        return len(going)


class LateCalls:
    """Calls whose connection was dropped and which will yet arrive, by their number in the request log."""

    def __init__(self, execute: Callable[[Call], object]) -> None:
        self._execute = execute
        self.waiting: dict[int, Call] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, call: Call, seconds: float | None) -> None:
        """Put a call off by `seconds`, or (null) until it is run by command."""
        self.waiting[call.seq] = call
        if seconds is not None:
            self._timers[call.seq] = asyncio.get_running_loop().call_later(seconds, self.run, call.seq)

    def run(self, seq: int | None = None) -> int:
        """Let one call, or all of them, arrive now, in the order they were sent; gives how many."""
        due = sorted(self.waiting) if seq is None else [seq] if seq in self.waiting else []
        for each in due:
            if timer := self._timers.pop(each, None):
                timer.cancel()
            self._execute(self.waiting.pop(each))
        return len(due)

    def cancel(self) -> None:
        """Let none of them arrive any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.waiting.clear()
