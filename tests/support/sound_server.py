"""A PostgreSQL with the settings it comes with: that of the other tests forgets commits when the power fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.migrate import migrate
from runner.sandbox.embedded_postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def sound_dsn(postgres_bin: Path | None) -> Iterator[str]:
    """A database on it, brought up as people do; whoever changes something changes it back."""
    settings = {"wal_level": "logical", "max_prepared_transactions": "2"}
    with EmbeddedPostgres(bindir=postgres_bin, settings=settings) as server:
        dsn = server.dsn("postgres")
        migrate(dsn)
        yield dsn
