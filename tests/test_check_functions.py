"""Functions that are not those of the files: replaced, changed in how they run, dropped, or brought in."""

from pathlib import Path

import pytest

from runner.migrate import migrate
from tests.support.databases import Connect, Database, rows, value
from tests.support.raw_transfers import run

pytest_plugins = ("tests.support.rolled_back",)

GUARD = "marketplace.tg_seller_transfers__guard_transition()"
FUNCTIONS = Path(__file__).resolve().parents[1] / "db" / "functions"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def found(db: Database) -> list[tuple[str, str]]:
    problems = rows(db, "select * from marketplace._check_functions() order by problem, object")
    assert all(problem["hint"] for problem in problems)
    return [(problem["problem"], problem["object"]) for problem in problems]


def test_every_function_of_the_files_is_known_and_there_is_no_other(db: Database) -> None:
    in_files = sum(
        path.read_text("utf-8").count("create or replace function marketplace.") for path in FUNCTIONS.glob("*.sql")
    )
    assert value(db, "select count(*) from marketplace.schema_functions") == in_files
    assert found(db) == []


def test_a_guard_whose_source_was_replaced_is_found(db: Database) -> None:
    run(
        db,
        f"create or replace function {GUARD} returns trigger language plpgsql set search_path = pg_catalog, pg_temp"
        " as $$ begin return NEW; end $$",
    )
    assert found(db) == [("function replaced", GUARD)]


@pytest.mark.parametrize(
    "change",
    [
        "security definer",
        "set search_path = public",
        "reset search_path",
        "set session_replication_role = replica",
        "stable",
        "strict",
        "parallel safe",
    ],
)
def test_a_function_that_runs_otherwise_than_it_was_loaded_is_found(db: Database, change: str) -> None:
    run(db, f"alter function {GUARD} {change}")
    assert found(db) == [("function replaced", GUARD)]


def test_a_function_from_elsewhere_is_found_and_the_hint_removes_it(db: Database) -> None:
    for signature in ("reopen(p_id bigint)", "helpful()", "_clean_text(p_text text)"):
        run(db, f"create function marketplace.{signature} returns integer language sql as 'select 1'")
        ((problem, name),) = found(db)
        assert (problem, name.split("(")[0]) == ("foreign function", "marketplace." + signature.split("(")[0])
        run(db, value(db, "select hint from marketplace._check_functions()"))
        assert found(db) == []


def test_a_function_that_was_dropped_is_found(db: Database) -> None:
    run(db, "drop function marketplace.reopen")
    assert found(db) == [("function missing", "marketplace.reopen(bigint,text,text)")]


def test_loading_again_mends_what_was_replaced_and_keeps_pointing_at_what_is_foreign(
    connect: Connect, dsn: str
) -> None:
    own_db = connect()
    run(own_db, "create function marketplace.helpful() returns integer language sql as 'select 1'")
    run(own_db, "create function marketplace.also_helpful() returns integer language sql as 'select 1'")
    run(own_db, f"alter function {GUARD} security definer")
    run(own_db, "drop function marketplace._lines_sha256")
    assert len(found(own_db)) == 4
    migrate(dsn)
    assert found(own_db) == [
        ("foreign function", "marketplace.also_helpful()"),
        ("foreign function", "marketplace.helpful()"),
    ]
