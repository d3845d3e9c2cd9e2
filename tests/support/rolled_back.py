"""A database that many tests share, for tests that commit nothing: what one does is rolled back before the next.

A module asks for it with `pytest_plugins = ("tests.support.rolled_back",)`; a database of one's own costs a tenth of a
second and more, this one nothing.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pytest_postgresql.janitor import DatabaseJanitor

from tests.support.databases import Database, ServerAddress, open_database
from tests.support.migrations import migrate_database


@pytest.fixture(scope="session")
def _shared_db(server_address: ServerAddress) -> Iterator[Database]:
    host, port, user = server_address.host, server_address.port, server_address.user
    with DatabaseJanitor(host=host, port=port, user=user, dbname="shared"):
        dsn = server_address.dsn("shared")
        migrate_database(dsn)
        with closing(open_database(dsn)) as db:
            yield db


@pytest.fixture
def rolled_back_db(_shared_db: Database) -> Iterator[Database]:
    """Connection to the shared database as its owner, in a transaction that ends with the test."""
    with _shared_db.transaction(force_rollback=True):
        yield _shared_db
