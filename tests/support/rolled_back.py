"""A database that many tests share, for tests that commit nothing: what one does is rolled back before the next.

A module asks for it with `pytest_plugins = ("tests.support.rolled_back",)`; a copy of one's own costs a
tenth of a second and more, this one nothing.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.databases import Database, SchemaCopy, open_database


@pytest.fixture(scope="session")
def _shared_db(schema_copy: SchemaCopy) -> Iterator[Database]:
    with schema_copy("shared") as dsn, closing(open_database(dsn)) as db:
        yield db


@pytest.fixture
def rolled_back_db(_shared_db: Database) -> Iterator[Database]:
    """Connection to the shared database as its owner, in a transaction that ends with the test."""
    with _shared_db.transaction(force_rollback=True):
        yield _shared_db
