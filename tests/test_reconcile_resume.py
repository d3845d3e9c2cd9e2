"""db/functions/reconcile_resume.sql: what lets calls go on in a database that was restored, and what does not."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, row, rows, value
from tests.support.failovers import control, pass_since_failover, promote, register_own
from tests.support.stripe_lists import (
    ANOTHER_DATABASE,
    begin,
    compared,
    finish,
    hand_over,
    listed_reversal,
    listed_transfer,
    reversal_mark,
    seconds_ago,
    sent_mark,
)
from tests.support.transfers import (
    Facts,
    call,
    claim,
    claim_sends,
    claimed_send,
    create_transfer,
    record_one,
    record_transfer,
    refunded_transfer,
    sent,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    register_own(rolled_back_db)
    return rolled_back_db


def restore(db: Database, ago: str = "3 hours") -> None:
    """As if this were a copy of another database, which came to be so long ago."""
    db.execute("update marketplace.stripe_control set table_oid = 1")
    with pytest.warns() if False else psycopg_notices(db):
        call(db, "next_due_in")
        assert claim(db) == []
    assert control(db)["reconcile_needed_since"] is not None
    db.execute(
        "update marketplace.stripe_control set reconcile_needed_since = clock_timestamp() - %s::interval", [ago]
    )


def resume(db: Database, *objects: Facts, **arguments: Any) -> DictRow:
    """Compare with these, and resume."""
    compared(db, *objects)
    return resume_by(db, last_run(db), **arguments)


def last_run(db: Database) -> int:
    return int(value(db, "select max(id) from marketplace.reconcile_runs"))


def resume_by(db: Database, run: int) -> DictRow:
    call(db, "resume_after_reconcile", p_run_id=run, p_reason="restored on Sunday")
    return control(db)


def refused(db: Database, run: int) -> str:
    """Why it may not go on by this run; nothing changes."""
    before = control(db)
    with pytest.raises(psycopg.Error) as raised, db.transaction():
        resume_by(db, run)
    diag = raised.value.diag
    assert (diag.sqlstate, diag.column_name) == ("ST012", "p_run_id")
    assert diag.message_hint
    assert control(db) == before
    return diag.message_primary or ""
