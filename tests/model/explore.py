"""Breadth-first search: every state the world can be in, and a shortest way to each."""

import gc
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tests.model.rules import Database, Rules
from tests.model.world import Scope, World

S = TypeVar("S", bound=Hashable)


class Searchable(Protocol[S]):
    """A world that can be searched."""

    def first(self) -> S:
        """Where everything begins."""

    def steps(self, state: S) -> Iterable[tuple[str, bool, S]]:
        """All that can happen next: in words, whether it is a fault, and what comes of it."""

    def is_end(self, state: S) -> bool:
        """Nothing more has to happen."""

    def wrong(self, before: S, after: S, *, new: bool) -> str | None:
        """What is wrong with a state, or with the way there; `new`: it was not seen before."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: how many states, and if something is wrong, what and how one gets there."""

    states: int
    violation: str | None
    trace: tuple[str, ...]

    def show(self, what: str) -> None:
        """Print it, for `pytest -s` and for failures."""
        print(f"\n{what}: {self.violation or 'safe'}, {self.states} states")  # noqa: T201
        for number, words in enumerate(self.trace, start=1):
            print(f"  {number:2} {words}")  # noqa: T201


def explore(rules: Rules, scope: Scope, only: str | None = None) -> Found:
    """Search the world of one reversal."""
    return search(World(Database(rules, scope.generations), scope), only)


def search(world: Searchable[S], only: str | None = None) -> Found:
    """Search until something is wrong, or `only` that, or every state has been seen.

    A state from which no end is reached unless something fails is wrong, too: "no way to an end".
    """
    with _no_garbage_collection():
        return _search(world, only)


def _search(world: Searchable[S], only: str | None) -> Found:
    start = world.first()
    number = {start: 0}
    came_from: list[tuple[int, str]] = [(-1, "")]
    leads_to_by_itself: list[list[int]] = []
    ends: list[int] = []
    queue = deque([start])
    while queue:
        state = queue.popleft()
        here = number[state]
        onward: list[int] = []
        leads_to_by_itself.append(onward)
        if world.is_end(state):
            ends.append(here)
        for words, fault, after in world.steps(state):
            there = number.get(after)
            new = there is None
            if there is None:
                there = number[after] = len(came_from)
                came_from.append((here, words))
                queue.append(after)
            wrong = world.wrong(state, after, new=new)
            if wrong and only in (None, wrong):
                return Found(len(number), wrong, (*_trace(came_from, here), words))
            if not fault:
                onward.append(there)
    dead = _first_dead(leads_to_by_itself, ends)
    if dead is not None:
        return Found(len(number), "no way to an end", _trace(came_from, dead))
    return Found(len(number), None, ())


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # Nothing here is cyclic, and looking for cycles among so many tuples takes a third of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _first_dead(leads_to: list[list[int]], ends: list[int]) -> int | None:
    """The first state from which no end is reached without a fault."""
    comes_from: list[list[int]] = [[] for _ in leads_to]
    for here, onward in enumerate(leads_to):
        for there in onward:
            comes_from[there].append(here)
    alive = bytearray(len(leads_to))
    todo = list(ends)
    while todo:
        here = todo.pop()
        if not alive[here]:
            alive[here] = 1
            todo += comes_from[here]
    dead = alive.find(0)
    return None if dead < 0 else dead


def _trace(came_from: list[tuple[int, str]], here: int) -> tuple[str, ...]:
    words: list[str] = []
    while here > 0:
        here, step = came_from[here]
        words.append(step)
    return tuple(reversed(words))
