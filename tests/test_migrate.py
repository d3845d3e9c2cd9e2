"""The command that migrates: functions whole and always, one migrator at a time, nothing over a newer schema."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from runner.lock_waits import Patience
from runner.migrate import MigrationRefused, migrate
from runner.schema import own_release
from tests.support.databases import Connect, Database, open_database, row, rows, value
from tests.support.raw_transfers import add_transfer, run
from tests.support.transfers import contents
from tests.support.yoyo import copy_db_folder, open_yoyo, schema_of

_SECONDS = 10

# A function of another release: whoever asks it learns whether it was replaced.
FOREIGN = """
create or replace function marketplace.can_transition_transfer_status(p_from text, p_to text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as 'select true'
"""


def is_foreign(db: Database) -> object:
    return value(db, "select marketplace.can_transition_transfer_status('reversed', 'pending')")


def seen(observer: Database, query: str) -> Any:
    """The value of the query as soon as it has one."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if found := rows(observer, query):
            (only,) = found[0].values()
            return only
    raise AssertionError(f"not seen within {_SECONDS} s: {query}")


def test_a_new_database_gets_every_migration_and_is_told_of_each(empty_dsn: str) -> None:
    told: list[str] = []
    migrated = migrate(empty_dsn, told.append)
    assert migrated.warnings == []
    assert told == [*[f"applying {applied}" for applied in migrated.applied], "loading functions"]
    assert migrated.applied[-1] == own_release().migration_head
    with open_database(empty_dsn) as db:
        assert value(db, "select migration_head from marketplace.schema_state()") == own_release().migration_head


# What a login may leave in schema public, where everybody may create (on PostgreSQL 14 everybody may): each fits better
# than PostgreSQL's own, and notes who called it.
BETTER_FITTING = """
create table public.called (by_whom text);
grant insert on public.called to public;
create function public.concat_ws(text, text, text) returns text language plpgsql as
$$ begin insert into public.called values (current_user); return $2; end $$;
create function public.pg_try_advisory_lock(integer) returns boolean language plpgsql as
$$ begin insert into public.called values (current_user); return true; end $$;
create function public.unnest(integer[]) returns setof integer language plpgsql as
$$ begin insert into public.called values (current_user); return query select pg_catalog.unnest($1); end $$;
"""
BETTER_EQUAL = """
create function public.same({left}, {right}) returns boolean language plpgsql as
$$ begin insert into public.called values (current_user); return $1::text operator(pg_catalog.=) $2::text; end $$;
create operator public.= (leftarg = {left}, rightarg = {right}, function = public.same);
"""
ALIKE = (("varchar", "text"), ("text", "varchar"), ("varchar", "varchar"), ("oid", "regnamespace"), ("name", "varchar"))


def test_nothing_that_others_left_in_schema_public_runs_as_who_migrates(empty_dsn: str) -> None:
    with open_database(empty_dsn) as db:
        db.execute("create role leaver")
        try:
            db.execute("grant create on schema public to leaver")
            db.execute("set session authorization leaver")
            db.execute(BETTER_FITTING)
            for left, right in ALIKE:
                db.execute(BETTER_EQUAL.format(left=left, right=right).encode())
            db.execute("reset session authorization")
            assert migrate(empty_dsn).applied
            assert migrate(empty_dsn).applied == []
            assert rows(db, "select by_whom, count(*) from public.called group by 1") == []
        finally:
            db.execute("reset session authorization")
            db.execute("drop owned by leaver cascade")
            db.execute("drop role leaver")


def test_a_table_of_somebody_else_where_yoyos_are_to_be_is_refused(empty_dsn: str) -> None:
    with open_database(empty_dsn) as db:
        db.execute("create role leaver")
        try:
            for table in ("_yoyo_migration", "_yoyo_log", "_yoyo_version", "yoyo_lock"):
                db.execute(f"create table public.{table} (); alter table public.{table} owner to leaver".encode())
                with pytest.raises(MigrationRefused, match=f"table {table}, .* belongs to leaver"):
                    migrate(empty_dsn)
                db.execute(f"drop table public.{table}".encode())
            assert migrate(empty_dsn).applied
        finally:
            db.execute("drop owned by leaver")
            db.execute("drop role leaver")


def test_functions_are_loaded_also_when_no_migration_is_pending(db: Database, dsn: str) -> None:
    db.execute(FOREIGN.encode())
    db.execute("update marketplace.schema_release set functions_sha256 = 'of another release'")
    assert is_foreign(db) is True
    assert migrate(dsn).applied == []
    assert is_foreign(db) is False
    assert value(db, "select functions_sha256 from marketplace.schema_state()") == own_release().functions_sha256


def test_loading_again_and_again_changes_nothing(dsn: str) -> None:
    before = schema_of(dsn)
    migrate(dsn)
    migrate(dsn)
    assert schema_of(dsn) == before


def test_a_file_that_cannot_be_loaded_leaves_every_old_function_in_place(
    db: Database, dsn: str, tmp_path: Path
) -> None:
    folder = copy_db_folder(tmp_path)
    (folder / "functions" / "aaa_foreign.sql").write_text(FOREIGN)
    (folder / "functions" / "transfer_transitions.sql").unlink()  # it would replace the foreign one again
    broken_file = folder / "functions" / "zzz_broken.sql"
    before, release = schema_of(dsn), contents(db)["schema_release"]
    for broken in (
        "create function marketplace.oops(",
        "create function marketplace._oops() returns bigint language sql as 'select id from marketplace.no_such_table'",
        "select 1 / 0",
    ):
        broken_file.write_text(broken)
        with open_yoyo(dsn, folder) as yoyo, pytest.raises(psycopg.Error):
            yoyo.load_functions()
        assert schema_of(dsn) == before
        assert contents(db)["schema_release"] == release
    broken_file.unlink()
    with open_yoyo(dsn, folder) as yoyo:
        yoyo.load_functions()
    assert is_foreign(db) is True


def test_files_may_refer_to_functions_of_later_files(db: Database, dsn: str, tmp_path: Path) -> None:
    folder = copy_db_folder(tmp_path)
    (folder / "functions" / "aaa.sql").write_text(
        "create or replace function marketplace._first() returns text language sql as 'select marketplace._second()'"
    )
    (folder / "functions" / "zzz.sql").write_text(
        "create or replace function marketplace._second() returns text language sql as $$ select 'there' $$"
    )
    with open_yoyo(dsn, folder) as yoyo:
        yoyo.load_functions()
    assert value(db, "select marketplace._first()") == "there"


def test_what_the_server_refuses_is_one_clear_line_and_nothing_is_changed(db: Database, dsn: str) -> None:
    # A function somebody made by hand: its argument has another name, which CREATE OR REPLACE does not change.
    db.execute("drop function marketplace.next_due_in(text)")
    db.execute("create function marketplace.next_due_in(kind text) returns interval language sql return null::interval")
    db.execute(FOREIGN.encode())
    with pytest.raises(MigrationRefused) as refused:
        migrate(dsn)
    assert "loading db/functions" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert is_foreign(db) is True


def test_a_lock_that_does_not_come_is_no_unreachable_database(dsn: str, connect: Connect) -> None:
    with connect(autocommit=False) as reader:
        reader.execute("select from marketplace.queue_health")  # CREATE OR REPLACE VIEW waits for this
        with pytest.raises(MigrationRefused):
            migrate(dsn, patience=Patience(lock_timeout_seconds=0.2, tries=1))


def test_a_role_that_may_not_is_refused(db: Database, dsn: str) -> None:
    db.execute("create role may_not login")
    try:
        with pytest.raises(MigrationRefused):
            migrate(make_conninfo(dsn, user="may_not"))
    finally:
        db.execute("drop role may_not")


def test_an_unreachable_database_is_an_operational_error(dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        migrate(make_conninfo(dsn, dbname="no_such_database"))


def test_a_database_of_a_newer_release_is_left_alone(db: Database, dsn: str) -> None:
    db.execute("update marketplace.schema_release set migration_head = '9999.later'")
    db.execute(FOREIGN.encode())
    before = contents(db)
    with pytest.raises(MigrationRefused) as refused:
        migrate(dsn)
    assert "9999.later" in str(refused.value)
    assert is_foreign(db) is True
    assert contents(db) == before


def test_of_two_migrators_at_once_one_waits_and_both_end_well(empty_dsn: str) -> None:
    second_waits = threading.Event()

    def first_report(_step: str) -> None:
        assert second_waits.wait(_SECONDS)

    with ThreadPoolExecutor(2) as pool, open_database(empty_dsn) as observer:
        first = pool.submit(migrate, empty_dsn, first_report)
        seen(observer, "select pid from pg_locks where locktype = 'advisory' and granted")
        second = pool.submit(migrate, empty_dsn)
        seen(
            observer,
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and query like '%advisory_lock%'"
            " and pid not in (select pid from pg_locks where locktype = 'advisory' and granted)",
        )
        second_waits.set()
        results = [first.result(_SECONDS), second.result(_SECONDS)]
    assert [len(result.applied) for result in results] == [72, 0]
    assert [result.warnings for result in results] == [[], []]


def test_a_migrator_that_was_killed_leaves_nothing_in_the_way(db: Database, dsn: str) -> None:
    db.execute("insert into yoyo_lock (locked, ctime, pid) values (1, now(), 999999)")
    db.execute("delete from _yoyo_migration where migration_id like '0014%'")
    assert [applied[:4] for applied in migrate(dsn).applied] == ["0014"]
    assert value(db, "select count(*) from yoyo_lock") == 0


def test_an_index_build_that_was_cut_off_is_made_good_by_the_next_migrator(
    db: Database, dsn: str, connect: Connect
) -> None:
    index = "idx_seller_transfers_reversal_pending"
    run(db, f"drop index marketplace.{index}")
    db.execute("delete from _yoyo_migration where migration_id like '0012%'")
    with connect(autocommit=False) as writer, ThreadPoolExecutor(1) as pool:
        add_transfer(writer, "pending")  # the build waits for the end of this transaction
        migrator = pool.submit(migrate, dsn)
        builder = seen(
            db,
            "select pid from pg_stat_activity"
            " where query like 'create index concurrently%' and wait_event_type = 'Lock'",
        )
        db.execute("select pg_terminate_backend(%s)", (builder,))
        with pytest.raises(psycopg.OperationalError):
            migrator.result(_SECONDS)
        writer.rollback()
    state = "select indisvalid from pg_index where indexrelid = to_regclass(%(index)s)"
    assert row(db, state, index=f"marketplace.{index}") == {"indisvalid": False}
    assert [applied[:4] for applied in migrate(dsn).applied] == ["0012"]
    assert row(db, state, index=f"marketplace.{index}") == {"indisvalid": True}
