"""Writes the generated parts of the README: `python -m tests.support.readme --write`."""

import re
import sys
from pathlib import Path

import psycopg
from psycopg.rows import DictRow

from runner.migrate import migrate
from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.support.databases import open_database

README = Path(__file__).resolve().parents[2] / "README.md"
_DIAGRAM = re.compile(r"(<!-- generated: state-diagram \(make docs\) -->\n).*?(<!-- end -->)", re.DOTALL)


def statuses(db: psycopg.Connection[DictRow]) -> list[str]:
    """The statuses that the CHECK constraint allows, in its order."""
    [row] = db.execute(
        "select pg_get_constraintdef(oid) as rule from pg_constraint"
        " where conrelid = 'marketplace.seller_transfers'::regclass and conname = 'chk_status_is_known'"
    ).fetchall()
    return re.findall(r"'([a-z_]+)'::text", row["rule"])


def state_diagram(db: psycopg.Connection[DictRow]) -> str:
    """The state machine as Mermaid, asked of can_transition_transfer_status."""
    known = statuses(db)
    edges = [
        (row["a"], row["b"])
        for row in db.execute(
            "select a, b from unnest(%(known)s::text[]) with ordinality as x (a, i)"
            " cross join unnest(%(known)s::text[]) with ordinality as y (b, j)"
            " where a <> b and marketplace.can_transition_transfer_status(a, b) order by i, j",
            {"known": known},
        )
    ]
    ends = [status for status in known if not any(a == status for a, _ in edges)]
    lines = ["    [*] --> pending", "    [*] --> completed"]
    lines += [f"    {a} --> {b}" for a, b in edges]
    lines += [f"    {status} --> [*]" for status in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def with_generated_parts(text: str, db: psycopg.Connection[DictRow]) -> str:
    """The README with its generated parts as they should be."""
    return _DIAGRAM.sub(lambda m: f"{m[1]}{state_diagram(db)}\n{m[2]}", text)


def main() -> None:
    """Rewrite README.md in place."""
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.support.readme --write")
    with EmbeddedPostgres() as server:
        migrate(server.dsn("postgres"))
        with open_database(server.dsn("postgres")) as db:
            README.write_text(with_generated_parts(README.read_text("utf-8"), db), "utf-8")


if __name__ == "__main__":
    main()
