"""Loads schema and functions on a PostgreSQL of the distribution's, and has plpgsql_check read every function.

    python -m tests.support.debian_postgres [--major 15] [--require]

A static check sees what tests may not reach: a misspelt column, a variable never read, a type cast at each call.
Exit status 1 means findings, or nothing to check with under `--require`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg
from psycopg.rows import class_row

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.support.databases import SETTINGS
from tests.support.migrations import migrate_database

# A trigger function can be read only together with the table (and transition tables) it is bound to.
_FINDINGS = """
select f.oid::regprocedure::text as function, f.relation, c.lineno as line, c.level, c.sqlstate, c.message, c.hint
from (
  select distinct
    p.oid, t.tgrelid, coalesce(' on ' || t.tgrelid::regclass, '') as relation, t.tgoldtable, t.tgnewtable
  from pg_catalog.pg_proc as p
  inner join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
  left join pg_catalog.pg_trigger as t on t.tgfoid = p.oid
  where p.pronamespace = %(schema)s::regnamespace
    and (p.prorettype <> 'pg_catalog.trigger'::regtype or t.tgrelid is not null)
) as f
cross join lateral plpgsql_check_function_tb(
  f.oid, coalesce(f.tgrelid, 0), oldtable => f.tgoldtable, newtable => f.tgnewtable, security_warnings => true
) as c
order by 1, 2, 3
"""

_UNBOUND = """
select p.oid::regprocedure::text
from pg_catalog.pg_proc as p
where p.pronamespace = %(schema)s::regnamespace
  and p.prorettype = 'pg_catalog.trigger'::regtype
  and not exists (select from pg_catalog.pg_trigger as t where t.tgfoid = p.oid)
order by 1
"""

_COUNT = """
select count(*)
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
where p.pronamespace = %(schema)s::regnamespace
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """A server of Debian's packages: major version, folder of its programs, whether plpgsql_check is there."""

    major: int
    bindir: Path
    has_plpgsql_check: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What plpgsql_check says about one line of a function's body; `relation` is ` on <table>` or empty."""

    function: str
    relation: str
    line: int | None
    level: str
    sqlstate: str | None
    message: str
    hint: str | None

    def __str__(self) -> str:
        place = f"{self.function}{self.relation}, line {self.line if self.line is not None else '?'}"
        return f"{place}: {self.level}: {self.message}{f' ({self.hint})' if self.hint else ''}"


def installations() -> list[Installation]:
    """Servers installed here, the best to check with first: those with plpgsql_check, then the newest."""
    found = []
    for bindir in Path("/usr/lib/postgresql").glob("[0-9]*/bin"):
        major = bindir.parent.name
        control = Path("/usr/share/postgresql", major, "extension", "plpgsql_check.control")
        if (bindir / "initdb").exists():
            found.append(Installation(int(major), bindir, control.exists()))
    return sorted(found, key=lambda each: (each.has_plpgsql_check, each.major), reverse=True)


def check_functions(connection: psycopg.Connection, schema: str) -> list[Finding]:
    """Have plpgsql_check read every PL/pgSQL function of a schema; any finding is one too many."""
    connection.execute("create extension if not exists plpgsql_check")
    with connection.cursor(row_factory=class_row(Finding)) as cursor:
        findings = cursor.execute(_FINDINGS, {"schema": schema}).fetchall()
    unbound = [name for (name,) in connection.execute(_UNBOUND, {"schema": schema})]
    return [
        *findings,
        *(Finding(name, "", None, "error", None, "is bound to no trigger", None) for name in unbound),
    ]


def choose(candidates: Sequence[Installation], major: int | None) -> Installation | None:
    """Pick the first of the wanted major version, or of any."""
    return next((each for each in candidates if major in (None, each.major)), None)


@click.command()
@click.option("--major", type=int, help="PostgreSQL's major version; default: the best there is.")
@click.option("--require", is_flag=True, help="Fail where there is nothing to check with.")
def main(major: int | None, *, require: bool) -> None:
    """Load schema and functions on Debian's PostgreSQL, and check every PL/pgSQL function."""
    installation = choose(installations(), major)
    if installation is None:
        click.echo(f"plpgsql_check: skipped, Debian's PostgreSQL {major or ''} is not installed".replace("  ", " "))
        sys.exit(1 if require else 0)
    with EmbeddedPostgres(bindir=installation.bindir, settings=SETTINGS) as server:
        dsn = server.dsn()
        migrate_database(dsn)
        click.echo(f"PostgreSQL {installation.major}: schema and functions load")
        if not installation.has_plpgsql_check:
            click.echo(f"plpgsql_check: skipped, postgresql-{installation.major}-plpgsql-check is not installed")
            sys.exit(1 if require else 0)
        with psycopg.connect(dsn, autocommit=True) as connection:
            findings = check_functions(connection, "marketplace")
            (count,) = connection.execute(_COUNT, {"schema": "marketplace"}).fetchone() or (0,)
    for finding in findings:
        click.echo(f"plpgsql_check: {finding}", err=True)
    click.echo(f"plpgsql_check: {count} functions, {len(findings)} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
