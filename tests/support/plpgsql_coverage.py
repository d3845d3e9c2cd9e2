"""Which statements and branches of db/functions the tests have executed, as plpgsql_check's profiler counts them.

    python -m pytest --plpgsql-coverage=FOLDER          counts on Debian's PostgreSQL, a file per worker of pytest
    python -m tests.support.plpgsql_coverage FOLDER     adds them up and shows what was not executed

Counts are kept per database, so they are read before a database is dropped. LANGUAGE sql functions have none. A branch
is what runs under one condition of IF, ELSIF, ELSE, CASE, a loop or an exception handler; of an IF without ELSE also
that none of its conditions held.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row
from pytest_postgresql.janitor import DatabaseJanitor

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.schema import db_folder
from tests.support.databases import SETTINGS
from tests.support.debian_postgres import Installation, installations
from tests.support.migrations import migrate_database

PROFILER = {
    "shared_preload_libraries": "plpgsql,plpgsql_check",
    "plpgsql_check.profiler": "on",
    # A function in a database takes one or more; those of dropped databases are given back as they are read.
    "plpgsql_check.profiler_max_shared_chunks": "50000",
}

_STATEMENTS = """
select
  p.oid::regprocedure::text as function, md5(p.prosrc) as body, s.stmtid as id, s.parent_stmtid as parent,
  s.parent_note as note, s.block_num as position, s.lineno as line, s.stmtname as name, s.exec_stmts as executed
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
cross join lateral plpgsql_profiler_function_statements_tb(p.oid) as s
where p.pronamespace = to_regnamespace('marketplace')
order by 1, 3
"""

# Not _reset_all: that forgets other databases, too.
_RESET = """
select plpgsql_profiler_reset(p.oid)
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
where p.pronamespace = to_regnamespace('marketplace')
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a function in one database: where it stands among the others, and how often it was executed."""

    function: str
    body: str
    id: int
    parent: int | None
    note: str | None
    position: int
    line: int
    name: str
    executed: int

    @property
    def key(self) -> str:
        """The same in every database; that of a function which a test has replaced is another."""
        return f"{self.function} {self.body} {self.id}"


@dataclass(frozen=True, slots=True)
class Part:
    """A statement or branch: the function it is of, its line there, what it is, whether it was ever executed."""

    function: str
    line: int
    what: str
    executed: bool


def checker() -> Installation:
    """The server to count on. Raises RuntimeError where there is none."""
    for installation in installations():
        if installation.has_plpgsql_check:
            return installation
    raise RuntimeError("needs plpgsql_check (Debian: apt-get install postgresql-15-plpgsql-check)")


class Counts:
    """What the databases of one pytest process have executed, added up over those dropped so far."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def read_before_every_drop(self) -> None:
        """From now on, what pytest-postgresql drops is read first."""
        janitor_class: Any = DatabaseJanitor
        drop = janitor_class.drop

        def read_and_drop(janitor: Any) -> None:
            self.read_database(
                make_conninfo(dbname=janitor.dbname, host=janitor.host, port=janitor.port, user=janitor.user)
            )
            drop(janitor)

        janitor_class.drop = read_and_drop

    def read_database(self, dsn: str) -> None:
        """Add what was executed there since it was read before."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            self.read(connection)

    def read(self, connection: psycopg.Connection[Any]) -> None:
        """Add what was executed in that database since it was read before."""
        for each in statements_of(connection):
            self._counts[each.key] += each.executed
        connection.execute(_RESET)

    def write(self, folder: Path) -> None:
        """Keep them for the report, in a file of this process's own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{os.getpid()}.json").write_text(json.dumps(self._counts))


def statements_of(connection: psycopg.Connection[Any]) -> list[Statement]:
    """Every statement of every function in that database."""
    connection.execute("set client_min_messages = warning")
    connection.execute("create extension if not exists plpgsql_check")
    with connection.cursor(row_factory=class_row(Statement)) as cursor:
        return cursor.execute(_STATEMENTS).fetchall()


def read_counts(folder: Path) -> Counter[str]:
    """The counts of all processes of a run together."""
    together: Counter[str] = Counter()
    for path in folder.glob("*.json"):
        together.update(json.loads(path.read_text()))
    return together


def statement_parts(statements: list[Statement], counts: Counter[str]) -> Iterator[Part]:
    """Every statement a person wrote; a block is only its statements."""
    for each in statements:
        if each.name != "statement block":
            yield Part(each.function, each.line, each.name, counts[each.key] > 0)


def branch_parts(statements: list[Statement], counts: Counter[str]) -> Iterator[Part]:
    """Every branch, by its first statement."""
    taken: Counter[tuple[str, int | None]] = Counter()  # by function and the number of its IF
    with_else = set()
    for each in statements:
        if each.note is None or each.note == "body" or each.position != 1:
            continue
        executed = counts[each.key]
        taken[each.function, each.parent] += executed
        if each.note == "else body":
            with_else.add((each.function, each.parent))
        yield Part(each.function, each.line, each.note, executed > 0)
    for each in statements:
        if each.name == "IF" and (each.function, each.id) not in with_else:
            missed = counts[each.key] > taken[each.function, each.id]
            yield Part(each.function, each.line, "IF whose condition is false", missed)


def places() -> dict[str, tuple[str, int]]:
    """For each function's name the file that makes it, and the line of that file its body begins on."""
    found = {}
    for path in sorted((db_folder() / "functions").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"create or replace function (marketplace\.\w+)\(.*?as \$\$", text, re.DOTALL):
            found[match[1]] = (path.name, text.count("\n", 0, match.end()) + 1)
    return found


def _percent(parts: list[Part]) -> float:
    return 100 * sum(part.executed for part in parts) / len(parts) if parts else 100.0


def show(statements: list[Part], branches: list[Part]) -> None:
    """A line per file, then a line for all that was not executed."""
    where = places()

    def place(part: Part) -> tuple[str, int]:
        name, begin = where.get(part.function.split("(")[0], (part.function, 1))
        return name, begin + part.line - 1

    files = sorted({place(part)[0] for part in (*statements, *branches)})
    click.echo(f"{'file':32}{'statements':>14}{'':>8}{'branches':>14}")
    for name in [*files, ""]:
        line = name or "together"
        for width, parts in ((32, statements), (22, branches)):
            own = [part for part in parts if name in ("", place(part)[0])]
            count = f"{sum(part.executed for part in own)}/{len(own)}"
            line = f"{line:{width}}" if width == 32 else line
            line += f"{count:>12}{_percent(own):>8.1f} %"
        click.echo(line)
    for kind, parts in (("statement", statements), ("branch", branches)):
        for part in sorted((p for p in parts if not p.executed), key=place):
            name, number = place(part)
            click.echo(f"not executed: {kind} {name}:{number} {part.what} ({part.function})")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--at-least", type=float, default=95.0, show_default=True, help="Percent of either, all files together.")
def main(folder: Path, at_least: float) -> None:
    """Show what the tests have executed; exit status 1 if that is less than it must be."""
    with EmbeddedPostgres(bindir=checker().bindir, settings={**SETTINGS, **PROFILER}) as server:
        migrate_database(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            statements = statements_of(connection)
    counts = read_counts(folder)
    of_statements = list(statement_parts(statements, counts))
    of_branches = list(branch_parts(statements, counts))
    show(of_statements, of_branches)
    sys.exit(1 if min(_percent(of_statements), _percent(of_branches)) < at_least else 0)


if __name__ == "__main__":
    main()
