"""db/functions/add_note.sql: what a person found out is kept with the row, whatever its status."""

import pytest

from tests.support.databases import Database
from tests.support.raw_transfers import STATUSES, add_transfer
from tests.support.transfers import call, contents, status_log

pytest_plugins = ("tests.support.rolled_back",)


@pytest.mark.parametrize("status", STATUSES)
def test_a_note_is_an_entry_of_the_log_and_nothing_else(rolled_back_db: Database, status: str) -> None:
    db = rolled_back_db
    row_id = add_transfer(db, status)
    before = contents(db)

    (row,) = call(db, "add_note", p_id=row_id, p_note="The seller has called; see ticket 42.")

    assert (row["id"], row["status"]) == (row_id, status)
    note = status_log(db, row_id)[-1]
    assert (note["from_status"], note["to_status"], note["logged_by"]) == (status, status, "postgres")
    assert note["reason"] == "The seller has called; see ticket 42."
    after = contents(db)
    assert {table for table in after if after[table] != before[table]} == {"transfer_status_log"}
