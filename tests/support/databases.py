"""What the fixtures of tests/conftest.py are made of, and short ways to ask a database something."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

# The data of a test need not outlive a power cut.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}

_HAS_STRATEGIES = 150000  # of CREATE DATABASE

Database = psycopg.Connection[DictRow]
Connect = Callable[..., Database]
SchemaCopy = Callable[[str], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """What the fixtures of pytest-postgresql ask the fixture they depend on."""

    host: str
    port: int
    user: str
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None

    def dsn(self, dbname: str) -> str:
        """Connection URI of that database, over the server's socket."""
        where = urlencode({"host": self.host, "port": self.port})
        return f"postgresql://{self.user}@/{quote(dbname, safe='')}?{where}"


def open_session(dsn: str, **options: Any) -> Database:
    """Connect with autocommit and rows as dicts; `options` are psycopg's, and win."""
    return psycopg.connect(dsn, **{"autocommit": True, "row_factory": dict_row, **options})


def open_database(dsn: str, **options: Any) -> Database:
    """Connect as open_session does, as somebody who may take guards away."""
    return open_session(dsn, **{"options": "-c marketplace.guards_may_change=on", **options})


@contextmanager
def copied_database(maintenance: Database, dbname: str, *, template: str) -> Iterator[None]:
    """Have a copy of a database until the end of the block, whoever is connected to it then.

    Its files are copied as they are: through the log, PostgreSQL's own choice from 15 on, takes twice as long.
    """
    names = {"name": sql.Identifier(dbname), "template": sql.Identifier(template)}
    strategy = sql.SQL("strategy = file_copy" if maintenance.info.server_version >= _HAS_STRATEGIES else "")
    create = sql.SQL("create database {name} template {template} {strategy}")
    maintenance.execute(create.format(**names, strategy=strategy))
    try:
        yield
    finally:
        maintenance.execute(sql.SQL("drop database {name} with (force)").format(**names))


def rows(db: Database, query: str, **parameters: Any) -> list[DictRow]:
    """All rows; the query names its parameters as %(name)s."""
    return db.execute(query.encode(), parameters or None).fetchall()


def row(db: Database, query: str, **parameters: Any) -> DictRow:
    """The row of a query that gives exactly one."""
    found = rows(db, query, **parameters)
    assert len(found) == 1, f"{len(found)} rows where one was expected: {query}"
    return found[0]


def value(db: Database, query: str, **parameters: Any) -> Any:
    """The one column of the one row."""
    (only,) = row(db, query, **parameters).values()
    return only
