"""A mutant: a bug put into a copy of the checkout, which the tests have to find."""

from dataclasses import dataclass
from pathlib import Path


class NoMutant(Exception):
    """What was meant to be a mutant is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text of a file of db/ or runner/, which must be in it exactly once, and what stands there instead."""

    file: str
    old: str
    new: str

    def applied_to(self, text: str) -> str:
        """Give the file's text with the bug in it. Raises NoMutant."""
        count = text.count(self.old)
        if count != 1:
            raise NoMutant(f"{self.file} has this {count} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: its name, what it does to somebody's money, where it is, and the tests that should see it first.

    `tests` are arguments of pytest, below tests/: a file, or one test of a file that is slow.
    """

    name: str
    harm: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]

    def apply(self, checkout: Path) -> None:
        """Put the bug into the checkout. Raises NoMutant."""
        for change in self.changes:
            path = checkout / change.file
            text = path.read_text(encoding="utf-8")
            path.write_text(change.applied_to(text), encoding="utf-8")

    @property
    def test_arguments(self) -> list[str]:
        """The likely tests as pytest takes them."""
        return [f"tests/{test}" for test in self.tests]


def mutant(name: str, harm: str, tests: str, *changes: tuple[str, str, str]) -> Mutant:
    """Write one down: `tests` are separated by blanks, a change is file, old text, new text."""
    return Mutant(name, harm, tuple(tests.split()), tuple(Change(*change) for change in changes))
