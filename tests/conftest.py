"""The fixtures every test may use.

`db`, `dsn` and `connect`: a fresh database for each test, with the project's schema and functions. `schema_copy`:
more of them, for those that share one. `empty_dsn`: one with nothing in it. `simulator`: a Stripe that has seen
nothing yet. Each pytest process has one PostgreSQL and one simulator of its own, started when first asked for; both
end with it, however it ends. The PostgreSQL is the embedded one, or with `--postgres-bin=DIR` that of an installation
whose programs are in DIR.
"""

import argparse
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.owned_process import end_with_parent
from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.support.databases import (
    SETTINGS,
    Connect,
    Database,
    SchemaCopy,
    ServerAddress,
    copied_database,
    open_database,
)
from tests.support.migrations import migrate_database
from tests.support.plpgsql_coverage import PROFILER, Counts, checker

# For `--hypothesis-profile=long`: see tests/test_state_machine.py.
settings.register_profile("long")

_NOT_FOR_TESTS = ("DATABASE_URL", "STRIPE_", "SELLER_TRANSFERS_", "PG")

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 4 << 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres-bin",
        type=_folder_of_programs,
        metavar="DIR",
        help="run on the PostgreSQL whose programs are in DIR, instead of the embedded one",
    )
    parser.addoption(
        "--plpgsql-coverage", type=Path, metavar="DIR", help="count what is executed of db/functions, on Debian's"
    )


def _folder_of_programs(text: str) -> Path:
    folder = Path(text).absolute()
    if not all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
        raise argparse.ArgumentTypeError(f"{folder} has no postgres and initdb that can be run")
    return folder


def pytest_configure() -> None:
    # A worker of pytest-xdist outlives its killed controller by up to 15 s; ours, and what they started, do not.
    if "PYTEST_XDIST_WORKER" in os.environ:
        end_with_parent(os.getppid(), signal.SIGKILL)
    # What a person has set for real work is not for tests.
    for name in [name for name in os.environ if name.startswith(_NOT_FOR_TESTS)]:
        del os.environ[name]
    if "TMPDIR" not in os.environ and _memory_will_do():
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _memory_will_do() -> bool:
    """Whether what is temporary can be in memory: a database is 500 files, and a disk's cost more CPU than its tests.

    In a container that folder is often tiny, and may hold no programs, as a server started by root needs.
    """
    try:
        is_free = shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES
        return is_free and os.access(_MEMORY, os.W_OK) and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
    except OSError:
        return False


@pytest.fixture(scope="session")
def postgres_bin(pytestconfig: pytest.Config) -> Path | None:
    """The programs to run a server of the schema with, for `EmbeddedPostgres(bindir=…)`; None: the embedded ones."""
    chosen: Path | None = pytestconfig.getoption("--postgres-bin")
    return chosen


@pytest.fixture(scope="session")
def _counts(pytestconfig: pytest.Config) -> Iterator[Counts | None]:
    """What `--plpgsql-coverage` has counted so far."""
    coverage = pytestconfig.getoption("plpgsql_coverage")
    if coverage is None:
        yield None
        return
    counts = Counts()
    counts.read_before_every_drop()
    yield counts
    counts.write(coverage)


@pytest.fixture(scope="session")
def embedded_postgres(_counts: Counts | None, postgres_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """The server of this session. A test that stops, crashes or configures one starts its own."""
    bindir, settings = postgres_bin, SETTINGS
    if _counts is not None:
        bindir, settings = postgres_bin or checker().bindir, {**SETTINGS, **PROFILER}
    with EmbeddedPostgres(bindir=bindir, settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def server_address(embedded_postgres: EmbeddedPostgres) -> ServerAddress:
    return ServerAddress(embedded_postgres.host, embedded_postgres.port, embedded_postgres.superuser)


def _load_schema(*, host: str, port: int, user: str, dbname: str, **_: Any) -> None:
    migrate_database(ServerAddress(host, port, user).dsn(dbname))


# The schema is loaded once, into a template; a test's database is a copy of its files.
schema_template = factories.postgresql_noproc(
    depends_on="server_address", dbname="seller_transfers", load=[_load_schema]
)


@pytest.fixture(scope="session")
def _maintenance(server_address: ServerAddress) -> Iterator[Database]:
    """A connection to none of the tests' databases, to make and drop them."""
    with closing(open_database(server_address.dsn(server_address.maintenance_dbname))) as db:
        yield db


@pytest.fixture(scope="session")
def schema_copy(
    _maintenance: Database, _counts: Counts | None, schema_template: NoopExecutor, server_address: ServerAddress
) -> SchemaCopy:
    """Have a database of that name, with the project's schema and functions: a context that gives its URI."""

    @contextmanager
    def copy(dbname: str) -> Iterator[str]:
        dsn = server_address.dsn(dbname)
        with copied_database(_maintenance, dbname, template=str(schema_template.template_dbname)):
            try:
                yield dsn
            finally:
                if _counts is not None:
                    _counts.read_database(dsn)

    return copy


@pytest.fixture
def dsn(schema_copy: SchemaCopy) -> Iterator[str]:
    """Connection URI of the test's database, as its owner."""
    with schema_copy("test") as dsn:
        yield dsn


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """Open connections to the test's database, `connect(**psycopg_options)`; they are closed after the test."""
    with ExitStack() as stack:

        def open_one(**options: Any) -> Database:
            return stack.enter_context(closing(open_database(dsn, **options)))

        yield open_one


@pytest.fixture
def db(connect: Connect) -> Database:
    """An autocommit connection with rows as dicts to the test's database, as its owner."""
    return connect()


@pytest.fixture
def empty_dsn(server_address: ServerAddress) -> Iterator[str]:
    """Connection URI of a database with nothing in it."""
    host, port, user = server_address.host, server_address.port, server_address.user
    with DatabaseJanitor(host=host, port=port, user=user, dbname="empty"):
        yield server_address.dsn("empty")


@pytest.fixture(scope="session")
def _simulator_process() -> Iterator[SimulatorClient]:
    with simulator_process() as client:
        yield client


@pytest.fixture
def simulator(_simulator_process: SimulatorClient) -> SimulatorClient:
    """Controls of a Stripe that has seen nothing yet; `.base_url` is where it listens."""
    _simulator_process.reset()
    return _simulator_process
