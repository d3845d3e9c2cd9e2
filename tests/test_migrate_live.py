"""Migrating a database in use: nobody waits for long, whoever is in the way is named, what was cut off is made good."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from runner.invalid_indexes import invalid_indexes
from runner.lock_waits import Patience
from runner.migrate import MigrationRefused, migrate
from runner.migration_files import index_builders
from runner.migration_plan import plan_migration
from runner.sandbox.owned_process import owned_command
from runner.schema import db_folder
from tests.support.databases import Connect, Database, open_database, rows, value
from tests.support.raw_transfers import add_transfer, insert_transfer, run
from tests.support.released import released_databases, restore
from tests.support.runners import REPOSITORY, wait_until
from tests.support.sessions import impatient, wait_until_blocked

RESTLESS = Patience(lock_timeout_seconds=0.2, tries=1000, pause_seconds=0.05)
UNIQUE = "idx_seller_transfers_stripe_transfer_id"

# A migration that asks for the strongest lock on the table that everybody writes.
ALTERS = "0015"
ALTERED = "chk_reversal_pending_has_next_retry_at"


def undo_alter(db: Database) -> None:
    run(db, f"alter table marketplace.seller_transfers drop constraint {ALTERED}")
    unmark(db, ALTERS)


def undo_build(db: Database) -> None:
    run(db, f"drop index marketplace.{UNIQUE}")
    unmark(db, "0024")


def unmark(db: Database, number: str) -> None:
    run(db, f"delete from _yoyo_migration where migration_id like '{number}%'")


def is_marked(db: Database, number: str) -> bool:
    return bool(rows(db, "select from _yoyo_migration where migration_id like %(like)s", like=f"{number}%"))


def has_constraint(db: Database) -> bool:
    return bool(rows(db, "select from pg_constraint where conname = %(name)s", name=ALTERED))


def is_valid(db: Database, index: str) -> bool | None:
    """None if there is no such index."""
    found = rows(
        db,
        "select indisvalid from pg_index where indexrelid = to_regclass(%(index)s)",
        index=f"marketplace.{index}",
    )
    return bool(found[0]["indisvalid"]) if found else None


@contextmanager
def migrate_process(dsn: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `seller-transfers migrate` under way, killed at the end of the block if need be."""
    command = owned_command([sys.executable, "-m", "runner", "migrate", *options], death_signal=signal.SIGKILL)
    with subprocess.Popen(command, env={"DATABASE_URL": dsn}, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_statement(observer: Database, like: str) -> int:
    """The pid of a migrator that waits for a lock with a statement like this."""
    found: list[Any] = []

    def waits() -> bool:
        found[:] = rows(
            observer,
            "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            " and application_name = 'seller-transfers migrate' and query ilike %(like)s",
            like=like,
        )
        return bool(found)

    wait_until(waits, f"a migrator waits with {like}")
    return int(found[0]["pid"])


def wait_for_another_row(db: Database) -> None:
    count = "select count(*) from marketplace.seller_transfers"
    before = value(db, count)
    wait_until(lambda: value(db, count) > before, "the writer goes on")


def test_writers_get_through_while_a_long_reader_keeps_a_migration_waiting(
    db: Database, dsn: str, connect: Connect
) -> None:
    undo_alter(db)
    # A writer that had to wait ten times as long as a try of the migration would say so.
    writer = impatient(connect, lock_timeout="2s")
    reader = connect(autocommit=False, application_name="nightly report")
    rows(reader, "select from marketplace.seller_transfers")
    told: list[str] = []
    stop = threading.Event()

    def write() -> int:
        count = 0
        while not stop.is_set():
            add_transfer(writer, "pending")
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        migrator = pool.submit(migrate, dsn, warn=told.append, patience=RESTLESS)
        wait_for_statement(db, "%alter table%")
        writing = pool.submit(write)
        for _ in range(3):  # writers wait behind the migration, and go on
            wait_until_blocked(db, writer)
            wait_for_another_row(db)
        assert not migrator.done()
        assert not has_constraint(db)
        reader.rollback()
        assert [applied[:4] for applied in migrator.result(20).applied] == [ALTERS]
        stop.set()
        assert writing.result(20) > 0
    assert has_constraint(db)
    assert any(f"pid {reader.info.backend_pid} (nightly report, idle in transaction" in line for line in told)
    assert any("AccessExclusiveLock on marketplace.seller_transfers" in line for line in told)


def test_who_is_in_the_way_to_the_end_is_named_in_the_refusal(db: Database, dsn: str, connect: Connect) -> None:
    undo_alter(db)
    with connect(autocommit=False, application_name="nightly report") as reader:
        rows(reader, "select from marketplace.seller_transfers")
        told: list[str] = []
        with pytest.raises(MigrationRefused) as refused:
            migrate(dsn, warn=told.append, patience=Patience(0.3, tries=2, pause_seconds=0.01))
        assert f"pid {reader.info.backend_pid} (nightly report" in str(refused.value)
        assert len(told) == 1
        assert "\n" not in told[0]
    assert not is_marked(db, ALTERS)
    assert [applied[:4] for applied in migrate(dsn).applied] == [ALTERS]


def test_a_migration_that_loses_a_deadlock_is_tried_again(db: Database, dsn: str, connect: Connect) -> None:
    # Loading replaces views in the order of their files.
    other = impatient(connect, deadlock_timeout="60s")
    told: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        with other.transaction():
            run(other, "lock table marketplace.rate_budget in access share mode")
            migrator = pool.submit(migrate, dsn, warn=told.append, patience=Patience(20, tries=3, pause_seconds=0.01))
            wait_for_statement(db, "%rate_budget%")
            # The migrator, which waits already, notices after deadlock_timeout, a second; we would after a minute.
            run(other, "lock table marketplace.needs_attention in access share mode")
        assert migrator.result(20).applied == []
    (line,) = told
    assert line.startswith("loading db/functions: deadlock: Process ")


def test_a_migrator_killed_before_it_could_mark_what_it_applied_is_followed_by_one_that_can(empty_dsn: str) -> None:
    restore(empty_dsn, released_databases()[-1])
    with closing(open_database(empty_dsn)) as db, closing(open_database(empty_dsn, autocommit=False)) as holder:
        before = value(db, "select count(*) from _yoyo_migration")
        run(holder, "lock table _yoyo_migration in share mode")  # marks can be read, and none be written
        with migrate_process(empty_dsn, "--lock-timeout", "60") as migrator:
            orphan = wait_for_statement(db, "%insert into%_yoyo_migration%")
            migrator.send_signal(signal.SIGKILL)
            assert migrator.wait(10) == -signal.SIGKILL
        run(db, f"select pg_terminate_backend({orphan})")
        wait_until(lambda: not rows(db, f"select from pg_stat_activity where pid = {orphan}"), "its session is gone")
        holder.rollback()
        # It began with the oldest that was pending. That is applied, says yoyo's log, and has no mark.
        (applied,) = rows(db, "select migration_id as id from _yoyo_log where operation = 'apply'")
        assert value(db, "select count(*) from _yoyo_migration") == before
        assert value(db, "select count(*) from yoyo_lock") == 1

        assert migrate(empty_dsn).applied[0] == applied["id"]

        assert value(db, "select count(*) from marketplace.self_check()") == 0


def test_an_index_whose_builder_was_killed_is_left_to_the_server_and_built_in_the_end(
    db: Database, dsn: str, connect: Connect
) -> None:
    undo_build(db)
    with connect(autocommit=False) as writer:
        add_transfer(writer, "pending")  # the build waits for the end of this transaction
        with migrate_process(dsn) as migrator:
            builder = wait_for_statement(db, "create unique index concurrently%")
            migrator.send_signal(signal.SIGKILL)
            assert migrator.wait(10) == -signal.SIGKILL
        # The server does not notice and builds on; nobody drops what it is building.
        assert is_valid(db, UNIQUE) is False
        with pytest.raises(MigrationRefused) as refused:
            migrate(dsn)
        assert f"being built by pid {builder}" in str(refused.value)
        run(db, f"select pg_terminate_backend({builder})")
        wait_until(lambda: invalid_indexes(db)[0].built_by is None, "nobody builds it")
        writer.rollback()
    told: list[str] = []
    assert [applied[:4] for applied in migrate(dsn, told.append).applied] == ["0024"]
    assert told[0] == f"dropping {UNIQUE}, which a build that did not end left invalid"
    assert is_valid(db, UNIQUE) is True


def test_an_index_that_cannot_be_unique_is_not_left_in_writers_way(db: Database, dsn: str) -> None:
    undo_build(db)
    paid = {"status": "completed", "completed_at": "now", "stripe_transfer_id": "tr_twice"}
    insert_transfer(db, **paid)
    insert_transfer(db, **paid)
    with pytest.raises(MigrationRefused) as refused:
        migrate(dsn)
    assert "Key (stripe_transfer_id)=(tr_twice) is duplicated" in str(refused.value)
    assert is_valid(db, UNIQUE) is None
    assert not is_marked(db, "0024")
    insert_transfer(db, **paid)  # an invalid unique index would refuse it


def test_an_index_of_ours_that_became_invalid_is_built_anew_though_its_migration_is_marked(
    db: Database, dsn: str
) -> None:
    run(db, f"update pg_index set indisvalid = false where indexrelid = 'marketplace.{UNIQUE}'::regclass")
    assert [applied[:4] for applied in migrate(dsn).applied] == ["0024"]
    assert is_valid(db, UNIQUE) is True
    assert is_marked(db, "0024")


def test_an_index_of_ours_that_somebody_dropped_is_built_anew_as_self_check_says(db: Database, dsn: str) -> None:
    run(db, f"drop index marketplace.{UNIQUE}")
    assert value(db, "select hint from marketplace.self_check()") == "Run seller-transfers migrate: it builds it anew."
    plan = plan_migration(dsn)
    assert [migration_id[:4] for migration_id in plan.pending] == ["0024"]
    assert [applied[:4] for applied in migrate(dsn).applied] == ["0024"]
    assert is_valid(db, UNIQUE) is True
    assert is_marked(db, "0024")
    assert rows(db, "select * from marketplace.self_check()") == []


def test_the_indexes_that_self_check_leaves_to_migrate_are_those_that_it_builds(db: Database) -> None:
    for name in index_builders(db_folder()):
        with db.transaction(force_rollback=True):
            run(db, f"drop index marketplace.{name}")
            hint = value(db, "select hint from marketplace._check_schema()")
            assert hint == "Run seller-transfers migrate: it builds it anew."


def test_an_invalid_index_of_somebody_elses_is_told_and_left(db: Database, dsn: str) -> None:
    run(db, "create index of_a_dba on marketplace.seller_transfers (seller_id)")
    run(db, "update pg_index set indisvalid = false where indexrelid = 'marketplace.of_a_dba'::regclass")
    told: list[str] = []
    assert migrate(dsn, warn=told.append).applied == []
    (line,) = told
    assert line.endswith('drop index concurrently marketplace."of_a_dba";')
    assert is_valid(db, "of_a_dba") is False


def test_a_constraint_that_cannot_be_looked_at_now_is_told_and_tried_by_the_next(
    db: Database, dsn: str, connect: Connect
) -> None:
    run(db, f"alter table marketplace.seller_transfers drop constraint {ALTERED}")
    run(db, f"alter table marketplace.seller_transfers add constraint {ALTERED} check (true) not valid")
    with connect(autocommit=False) as holder:
        run(holder, "lock table marketplace.seller_transfers in share update exclusive mode")
        (warning,) = migrate(dsn, patience=Patience(0.1)).warnings
    assert warning.startswith(f"{ALTERED} on marketplace.seller_transfers is not valid yet: the table is locked")
    assert migrate(dsn).warnings == []


def test_a_build_that_waits_long_says_for_whom(
    db: Database, dsn: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.lock_waits._LONG_SECONDS", 0.1)
    undo_build(db)
    told: list[str] = []
    with connect(autocommit=False, application_name="nightly report") as writer, ThreadPoolExecutor(1) as pool:
        add_transfer(writer, "pending")
        migrator = pool.submit(migrate, dsn, warn=told.append)
        wait_until(lambda: told, "it is told")
        assert f"blocked by pid {writer.info.backend_pid} (nightly report, idle in transaction" in told[0]
        writer.rollback()
        assert migrator.result(20).applied
    assert len(told) == 1


def test_a_server_that_goes_away_is_not_waited_for(db: Database, dsn: str, connect: Connect) -> None:
    undo_alter(db)
    with connect(autocommit=False) as reader, ThreadPoolExecutor(1) as pool:
        rows(reader, "select from marketplace.seller_transfers")
        migrator = pool.submit(migrate, dsn, patience=Patience(60))
        run(db, f"select pg_terminate_backend({wait_for_statement(db, '%alter table%')})")
        with pytest.raises(psycopg.OperationalError):
            migrator.result(20)
