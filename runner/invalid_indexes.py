"""Indexes that a concurrent build left when it was cut off or refused: PostgreSQL keeps them, and does not read them.

One that is unique already refuses writes, so it is not left lying about. Dropped concurrently it stops nobody; the
migration that builds it does so anew. So it does for one that somebody dropped.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

_INVALID = """
SELECT c.relname AS name, p.pid AS built_by
FROM pg_catalog.pg_index AS i
INNER JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_stat_progress_create_index AS p ON p.index_relid = i.indexrelid
WHERE c.relnamespace = to_regnamespace('marketplace') AND NOT i.indisvalid
ORDER BY 1
"""

_THERE = """
SELECT c.relname FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = to_regnamespace('marketplace') AND c.relkind IN ('i', 'I')
"""


@dataclass(frozen=True, slots=True)
class InvalidIndex:
    """An index that is not valid; `built_by` is the session that is building it right now, if one is."""

    name: str
    built_by: int | None


def invalid_indexes(connection: psycopg.Connection[Any]) -> list[InvalidIndex]:
    """Those of the schema, by name."""
    with connection.cursor(row_factory=class_row(InvalidIndex)) as cursor:
        return cursor.execute(_INVALID).fetchall()


def missing_indexes(connection: psycopg.Connection[Any], ours: Collection[str]) -> list[str]:
    """Those of our names that are not there at all, whatever the reason: not built yet, or dropped."""
    there = {name for (name,) in connection.execute(_THERE)}
    return sorted(set(ours) - there)


def drop_invalid(
    connection: psycopg.Connection[Any], ours: Collection[str], report: Callable[[str], None]
) -> list[str]:
    """Drop those of our names that nobody is building, and give their names."""
    dropped = [each.name for each in invalid_indexes(connection) if each.name in ours and each.built_by is None]
    if dropped:
        # Without end: a concurrent drop waits for old transactions, and nobody waits for it.
        connection.execute("SET lock_timeout = 0")
    for name in dropped:
        report(f"dropping {name}, which a build that did not end left invalid")
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier("marketplace", name)))
    return dropped


def statement_to_drop(name: str) -> str:
    """What a person types."""
    return f'drop index concurrently marketplace."{name}";'
