"""The status log: every birth and every change, by whom and why; nothing else."""

import pytest

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.raw_transfers import PATHS, STATUSES, add_transfer, enter, update_transfer
from tests.support.transfers import transfer

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def log_of(db: Database, transfer_id: int) -> list[tuple[str | None, str]]:
    found = rows(
        db,
        "select from_status, to_status from marketplace.transfer_status_log where transfer_id = %(id)s order by id",
        id=transfer_id,
    )
    return [(entry["from_status"], entry["to_status"]) for entry in found]


def last_entry(db: Database) -> dict[str, object]:
    return row(db, "select * from marketplace.transfer_status_log order by id desc limit 1")


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_replaying_the_log_gives_the_status_of_every_row(db: Database, role: str) -> None:
    db.execute(f"set session_replication_role = {role}".encode())
    for status, path in PATHS.items():
        transfer_id = add_transfer(db, status)
        assert log_of(db, transfer_id) == list(zip((None, *path), path, strict=False))
    assert value(db, "select count(distinct transfer_id) from marketplace.transfer_status_log") == len(STATUSES)


def test_an_update_that_keeps_the_status_is_not_logged(db: Database) -> None:
    transfer_id = add_transfer(db, "reversal_pending")
    before = log_of(db, transfer_id)
    update_transfer(db, transfer_id, "status = 'reversal_pending', retry_count = 3")
    assert log_of(db, transfer_id) == before


def test_a_status_changed_by_a_trigger_of_somebody_else_is_logged_too(db: Database) -> None:
    db.execute(
        "create function public.meddle() returns trigger language plpgsql as"
        " $$ begin NEW.status := 'failed'; return NEW; end $$"
    )
    transfer_id = add_transfer(db, "pending")
    db.execute(
        "create trigger _050_meddle before update on marketplace.seller_transfers"
        " for each row execute function public.meddle()"
    )
    update_transfer(db, transfer_id, "retry_count = 1")
    assert transfer(db, transfer_id)["status"] == "failed"
    assert log_of(db, transfer_id) == [(None, "pending"), ("pending", "failed")]


def test_an_entry_says_when_who_by_which_program_and_why(db: Database) -> None:
    db.execute("set application_name = 'the app'")
    transfer_id = add_transfer(db, "pending")
    assert last_entry(db)["reason"] is None
    with db.transaction(force_rollback=True):
        db.execute("create role some_role")
        db.execute("grant usage on schema marketplace to some_role")
        db.execute("grant all on all tables in schema marketplace to some_role")
        db.execute("grant execute on all functions in schema marketplace to some_role")
        db.execute("set local role some_role")
        db.execute("set local marketplace.reason = 'because'")
        update_transfer(db, transfer_id, "status = 'failed'")
        entry = last_entry(db)
        clock = value(db, "select clock_timestamp()")
    assert (entry["transfer_id"], entry["from_status"], entry["to_status"]) == (transfer_id, "pending", "failed")
    assert entry["logged_by"] == db.info.user  # who was logged in, not the role in force
    assert (entry["application_name"], entry["reason"]) == ("the app", "because")
    assert transfer(db, transfer_id)["created_at"] < entry["logged_at"] < clock


def test_the_reason_of_one_transaction_is_not_that_of_the_next(connect: Connect) -> None:
    db = connect()
    transfer_id = add_transfer(db, "pending")
    with db.transaction():
        db.execute("set local marketplace.reason = 'because'")
        update_transfer(db, transfer_id, "status = 'failed'")
    enter(db, transfer_id, "completed")
    assert last_entry(db)["to_status"] == "completed"
    assert last_entry(db)["reason"] is None


def test_an_entry_quotes_the_words_of_the_row_and_stays_within_bounds(db: Database) -> None:
    db.execute("set marketplace.reason = 'reported by worker-1'")
    add_transfer(db, "permanently_failed")
    assert last_entry(db)["reason"] == "reported by worker-1: Given up."
    db.execute(f"set marketplace.reason = '{'x' * 3000}'".encode())
    add_transfer(db, "pending")
    assert last_entry(db)["reason"] == "x" * 1000
