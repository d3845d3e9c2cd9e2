"""What `make coverage` counts: statements and branches over several databases, none lost and none made up."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.support.databases import SETTINGS
from tests.support.debian_postgres import installations
from tests.support.plpgsql_coverage import (
    PROFILER,
    Counts,
    branch_parts,
    checker,
    places,
    read_counts,
    statement_parts,
    statements_of,
)

pytestmark = pytest.mark.skipif(
    not any(each.has_plpgsql_check for each in installations()), reason="no PostgreSQL with plpgsql_check is installed"
)

FUNCTION = """
create schema marketplace;
create function marketplace.f(p_a integer) returns integer language plpgsql as $$
begin
  if p_a = 1 then
    return 1;
  end if;
  if p_a = 2 then
    raise exception 'two';
  elsif p_a = 3 then
    perform 1 / 0;
  else
    perform 1;
  end if;
  while p_a > 9 loop
    p_a := p_a - 10;
  end loop;
  begin
    perform 1 / (p_a - 5);
  exception
    when division_by_zero then
      return 5;
  end;
  return case p_a when 7 then 7 else 0 end;
end
$$
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(bindir=checker().bindir, settings={**SETTINGS, **PROFILER}) as running:
        yield running


def executed_in(server: EmbeddedPostgres, dbname: str, arguments: list[int], counts: Counts) -> None:
    """A database with the function, called with each of these; read as before it is dropped."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {dbname}".encode())
    with psycopg.connect(server.dsn(dbname), autocommit=True) as connection:
        connection.execute(FUNCTION)
        for argument in arguments:
            try:
                connection.execute("select marketplace.f(%s)", [argument])
            except psycopg.Error as error:
                assert error.sqlstate in ("P0001", "22012")  # noqa: PT017 - a statement that raises was executed
        counts.read(connection)
        counts.read(connection)  # and is forgotten then


def test_what_no_database_executed_is_named_by_line(server: EmbeddedPostgres, tmp_path: Path) -> None:
    counts = Counts()
    executed_in(server, "one", [1, 2], counts)
    counts.write(tmp_path)
    executed_in(server, "two", [5], counts)
    counts.write(tmp_path)
    with psycopg.connect(server.dsn("two"), autocommit=True) as connection:
        statements = statements_of(connection)
    together = read_counts(tmp_path)

    missing = [(part.line, part.what) for part in statement_parts(statements, together) if not part.executed]
    assert missing == [(9, "PERFORM"), (14, "assignment"), (22, "RETURN")]
    branches = list(branch_parts(statements, together))
    assert len(branches) == 7
    missing = [(part.line, part.what) for part in branches if not part.executed]
    assert missing == [(9, "elsif 1"), (14, "loop body")]


def test_an_if_that_was_never_false_is_a_branch_not_taken(server: EmbeddedPostgres, tmp_path: Path) -> None:
    counts = Counts()
    executed_in(server, "three", [1, 1], counts)
    counts.write(tmp_path)
    with psycopg.connect(server.dsn("three"), autocommit=True) as connection:
        parts = list(branch_parts(statements_of(connection), read_counts(tmp_path)))

    assert [(part.line, part.what) for part in parts if part.executed] == [(4, "then body")]
    assert (3, "IF whose condition is false", False) in [(part.line, part.what, part.executed) for part in parts]


def test_what_was_counted_of_another_body_is_not_counted(server: EmbeddedPostgres) -> None:
    create = FUNCTION.partition(";")[2]
    executed_in(server, "four", [], Counts())
    with psycopg.connect(server.dsn("four"), autocommit=True) as connection:
        before = {each.key for each in statements_of(connection)}
        connection.execute(create.replace("create", "create or replace").replace("'two'", "'zwei'").encode())
        after = {each.key for each in statements_of(connection)}
    assert len(after) == len(before) > 10
    assert not after & before


def test_every_function_has_a_place() -> None:
    name, line = places()["marketplace._require_served"]
    assert name == "release.sql"
    text = (Path(__file__).parents[1] / "db" / "functions" / name).read_text(encoding="utf-8").splitlines()
    assert text[line - 1] == "as $$"
