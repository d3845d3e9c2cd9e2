"""Breadth-first search: every state the world can be in, and a shortest way to each."""

from collections import deque
from dataclasses import dataclass

from tests.model.rules import Database, Rules
from tests.model.world import Scope, State, World, first_state, violation


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: how many states, and if something is wrong, what and how one gets there."""

    states: int
    violation: str | None
    trace: tuple[str, ...]


def explore(rules: Rules, scope: Scope) -> Found:
    """Search until something is wrong or every state has been seen; a dead state counts as wrong."""
    world = World(Database(rules, scope.generations), scope)
    start = first_state(scope)
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
        if state.row and (state.row.status != "reversal_pending" or state.row.generation > scope.generations):
            ends.append(here)
        for words, fault, after in world.steps(state):
            there = number.get(after)
            if there is None:
                there = number[after] = len(came_from)
                came_from.append((here, words))
                wrong = violation(after)
                if wrong:
                    return Found(len(number), wrong, _trace(came_from, there))
                queue.append(after)
            if not fault:
                onward.append(there)
    dead = _first_dead(leads_to_by_itself, ends)
    if dead is not None:
        return Found(len(number), "no way to an end", _trace(came_from, dead))
    return Found(len(number), None, ())


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
