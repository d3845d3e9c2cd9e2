"""tests/mutants: every mutant is one, and a run of pytest is read as it ended. `make mutants` lets them loose."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.catalogue import ALL
from tests.mutants.harness import CHECKOUT, read_run
from tests.mutants.mutant import Change, NoMutant

FIRST = """
FAILED tests/test_a.py::test_one[as shipped] - AssertionError: assert 1 == 2
FAILED tests/test_b.py::test_two
"""


@cache
def source(file: str) -> str:
    return Path(CHECKOUT / file).read_text(encoding="utf-8")


@cache
def names_of_tests(file: str) -> set[str]:
    return {
        each.name
        for each in ast.parse(source(f"tests/{file}")).body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_mutant_finds_the_text_that_it_changes_once() -> None:
    for mutant in ALL:
        for change in mutant.changes:
            assert change.file.startswith(("db/functions/", "db/migrations/", "runner/")), mutant.name
            assert change.applied_to(source(change.file)) != source(change.file), mutant.name


def test_every_mutant_names_tests_that_there_are() -> None:
    for mutant in ALL:
        assert mutant.tests, mutant.name
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert not name or name.partition("[")[0] in names_of_tests(file), (mutant.name, test)


def test_mutants_differ_in_name_and_say_what_they_do_in_a_sentence() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL) >= 25
    for mutant in ALL:
        assert mutant.harm.endswith("."), mutant.name
        assert 20 <= len(mutant.harm) <= 120, mutant.name


def test_a_text_that_is_gone_or_there_twice_makes_no_mutant() -> None:
    change = Change("db/functions/claim.sql", "one", "two")
    assert change.applied_to("one three") == "two three"
    for text in ("three", "one one"):
        with pytest.raises(NoMutant):
            change.applied_to(text)


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        (0, "3 passed", (True, None, None)),
        (1, FIRST, (False, "tests/test_a.py::test_one[as shipped]", None)),
        (2, FIRST, (False, "tests/test_a.py::test_one[as shipped]", None)),
        (1, "ERROR tests/test_a.py::test_one - MigrationRefused: loading", (False, None, "tests/test_a.py::test_one")),
        (2, "ERROR tests/test_a.py - SyntaxError: bad", (False, None, "tests/test_a.py")),
        (4, "ERROR: not found: tests/test_a.py::test_nine", (False, None, None)),
        (5, "no tests ran", (False, None, None)),
        (None, FIRST, (False, None, None)),
    ],
    ids=["green", "red", "red with xdist", "no schema", "no module", "no such test", "nothing", "too late"],
)
def test_a_run_is_read_as_it_ended(
    status: int | None, output: str, expected: tuple[bool, str | None, str | None]
) -> None:
    run = read_run(status, output)
    assert (run.is_green, run.failed, run.error) == expected
