"""A database and sessions that the tests of a module share, for what two of them do to each other.

A module asks for it with `pytest_plugins = ("tests.support.stage",)`. That saves a copy of the schema for each test:
every one plays with transfers of its own, and what it leaves open is nobody's work afterwards.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.support.databases import Database, SchemaCopy, open_database
from tests.support.sessions import impatient
from tests.support.transfers import call
from tests.support.two_sessions import NO_LEASE, SECONDS, Stage


@pytest.fixture(scope="module")
def _shared_stage(schema_copy: SchemaCopy) -> Iterator[Stage]:
    with schema_copy("stage") as dsn, ExitStack() as stack:

        def session(**options: Any) -> Database:
            return stack.enter_context(closing(open_database(dsn, **options)))

        first, second = (impatient(session, deadlock_timeout="10ms") for _ in range(2))
        stage = Stage(first, second, gate=session(), observer=session())
        # A second is what a report waits for a row; on a slow machine that is less than a test needs.
        stage.gate.execute(
            f"alter function marketplace.record_reversal_outcomes(jsonb) set lock_timeout = '{SECONDS}s'".encode()
        )
        yield stage


@pytest.fixture
def stage(_shared_stage: Stage) -> Iterator[Stage]:
    """The sessions, with nothing to do yet."""
    yield _shared_stage
    call(_shared_stage.gate, "resume_stripe_calls", p_reason="the test is over")
    _shared_stage.gate.execute(
        f"update marketplace.seller_transfers set parked_reason = 'over', {NO_LEASE}"
        " where status = 'reversal_pending'".encode()
    )
