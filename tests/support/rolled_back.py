"""A database that many tests share, for tests that commit nothing: what one does is rolled back before the next.

A module asks for it with `pytest_plugins = ("tests.support.rolled_back",)`; a copy of one's own costs a
tenth of a second and more, this one nothing.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from tests.support.databases import Database, ServerAddress, open_database


@pytest.fixture(scope="session")
def _shared_db(schema_template: NoopExecutor, server_address: ServerAddress) -> Iterator[Database]:
    janitor = DatabaseJanitor(
        host=server_address.host,
        port=server_address.port,
        user=server_address.user,
        dbname="shared",
        template_dbname=schema_template.template_dbname,
    )
    with janitor, closing(open_database(server_address.dsn("shared"))) as db:
        yield db


@pytest.fixture
def rolled_back_db(_shared_db: Database) -> Iterator[Database]:
    """Connection to the shared database as its owner, in a transaction that ends with the test."""
    with _shared_db.transaction(force_rollback=True):
        yield _shared_db
