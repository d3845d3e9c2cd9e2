"""A database of an earlier release, once migrated, is a new one with its rows; what ran on it goes on, or stops."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.migrate import MigrationRefused, migrate
from runner.migration_files import changed_since_release, file_sha256, released_sha256, stops
from runner.migration_plan import plan_migration
from runner.schema import db_folder, migration_ids, own_version, version_number
from tests.support.databases import Database, open_database, row, rows, value
from tests.support.raw_transfers import run
from tests.support.released import (
    columns_of,
    released_databases,
    released_runners,
    restore,
    runner_statements,
    something_of_everything,
)
from tests.support.schema_listing import SNAPSHOT, everything, interface
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    contents,
    create_transfer,
    record_one,
    success,
)
from tests.support.yoyo import copy_db_folder, open_yoyo

VIEWS = {"needs_attention", "queue_health", "transfer_totals"}
KEPT = ("reversal_request_lines", "stripe_refunds", "stripe_disputes")
MONEY = """
select status, currency, count(*), sum(amount), count(stripe_transfer_id), count(stripe_reversal_id), count(lease_token)
from marketplace.seller_transfers group by status, currency order by 1, 2
"""


def test_the_schema_is_the_one_that_was_looked_at(db: Database) -> None:
    assert interface(db) == SNAPSHOT.read_text(encoding="utf-8").splitlines(), "if it is meant: make snapshot"


@pytest.mark.parametrize("released", released_databases(), ids=lambda path: path.name)
def test_an_upgraded_database_is_a_new_one_with_its_rows(db: Database, empty_dsn: str, released: Path) -> None:
    restore(empty_dsn, released)
    with open_database(empty_dsn) as upgraded:
        money, head = rows(upgraded, MONEY), value(upgraded, "select migration_head from marketplace.schema_release")
        kept = {table: rows(upgraded, f"select * from marketplace.{table} order by 1, 2") for table in KEPT}

        migrated = migrate(empty_dsn)

        assert migrated.applied == [each for each in migration_ids(db_folder()) if each > head]
        assert migrated.warnings == []
        assert everything(upgraded) == everything(db)
        assert rows(upgraded, MONEY) == money
        for table, before in kept.items():
            columns = ", ".join(before[0])
            assert rows(upgraded, f"select {columns} from marketplace.{table} order by 1, 2") == before
        assert rows(upgraded, "select * from marketplace.verify_log()") == []
        assert value(upgraded, "select count(*) from marketplace.self_check()") == 0
        noted = rows(upgraded, "select migration_id as id, sha256 from marketplace.migration_files order by 1")
        assert {each["id"]: each["sha256"] for each in noted} == {
            each: file_sha256(db_folder(), each) for each in migration_ids(db_folder())
        }


def test_a_login_that_tables_were_granted_to_goes_on_as_a_member_and_the_rest_is_asked_back(empty_dsn: str) -> None:
    restore(empty_dsn, released_databases()[0])
    with open_database(empty_dsn) as db:
        db.execute("create role veteran")
        try:
            db.execute("grant usage on schema marketplace to veteran")
            db.execute("grant select, insert, update on all tables in schema marketplace to veteran")

            (warning,) = migrate(empty_dsn).warnings

            assert "veteran" in warning
            with db.transaction():
                db.execute("set local session authorization veteran")
                create_transfer(db, 900)
                assert claim(db) != []
                db.execute("reset session authorization")
            asked = rows(db, "select distinct problem from marketplace.self_check()")
            assert asked == [{"problem": "open grant"}]
            db.execute(warning[warning.index("revoke all") :].encode())
            db.execute("revoke all on schema marketplace from veteran")
            assert rows(db, "select * from marketplace.self_check()") == []
        finally:
            db.execute("drop owned by veteran; drop role veteran")


def test_work_goes_on_in_an_upgraded_database(empty_dsn: str) -> None:
    restore(empty_dsn, released_databases()[0])
    migrate(empty_dsn)
    with open_database(empty_dsn) as db:
        lapse = "lease_expires_at = clock_timestamp()"
        run(db, f"update marketplace.seller_transfers set {lapse} where lease_token is not null")
        due = "next_retry_at = clock_timestamp()"
        run(
            db, f"update marketplace.seller_transfers set {due} where next_retry_at is not null and lease_token is null"
        )
        assert {each["action"] for each in claim(db)} == {"look_up_reversals"}  # an outcome unknown, and a part
        assert {each["action"] for each in claim_sends(db)} == {"look_up_transfer", "send"}
        assert record_one(db, success(claimed_call(db, 50)))["status"] == "reversed"


def test_the_database_kept_of_a_release_has_something_in_every_table(db: Database) -> None:
    something_of_everything(db)
    empty = {table for table, content in contents(db).items() if content is None}
    assert empty == {"prunings"}  # which needs years to have something to take


def test_released_migrations_are_what_they_were() -> None:
    assert changed_since_release(db_folder()) == [], "databases exist that were made by it: write a new migration"
    released = list(released_sha256(db_folder()))
    assert released == migration_ids(db_folder())[: len(released)]


@pytest.mark.parametrize("spoil", ["edit", "remove"])
def test_a_released_file_that_was_edited_or_removed_is_noticed(tmp_path: Path, spoil: str) -> None:
    folder = copy_db_folder(tmp_path)
    file = folder / "migrations" / "0031.index-successor-of.sql"
    if spoil == "edit":
        file.write_text(file.read_text() + "\n")
    else:
        file.unlink()
    assert changed_since_release(folder) == ["0031.index-successor-of"]


def test_a_program_with_an_edited_file_migrates_nothing(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_db_folder(tmp_path)
    (folder / "migrations" / "0001.create-schema.sql").write_text("select 1;")
    monkeypatch.setattr("runner.installed.db_folder", lambda: folder)
    with pytest.raises(MigrationRefused) as refused:
        migrate(empty_dsn)
    assert str(refused.value).startswith("0001.create-schema.sql is not the file that was released")
    with open_database(empty_dsn) as db:
        assert rows(db, "select from pg_class where relnamespace = 'public'::regnamespace") == []


def test_a_database_migrated_by_another_file_is_refused_until_a_person_has_compared(db: Database, dsn: str) -> None:
    which = "migration_id = '0031.index-successor-of'"
    run(db, f"update marketplace.migration_files set sha256 = repeat('0', 64) where {which}")
    before = contents(db)
    for refusing in (migrate, plan_migration):
        with pytest.raises(MigrationRefused) as refused:
            refusing(dsn)
        assert "0031.index-successor-of was applied from another file (SHA-256 000000000000…)" in str(refused.value)
    assert contents(db) == before
    run(db, f"delete from marketplace.migration_files where {which}")
    assert migrate(dsn).applied == []
    assert value(db, f"select sha256 from marketplace.migration_files where {which}") == file_sha256(
        db_folder(), "0031.index-successor-of"
    )


def test_a_migration_that_was_rolled_back_may_come_again_as_another_file(db: Database, dsn: str) -> None:
    which = "migration_id = '0046.index-unheard-reversals'"
    run(db, f"update marketplace.migration_files set sha256 = repeat('0', 64) where {which}")
    with open_yoyo(dsn) as yoyo:
        yoyo.roll_back("0046")
    assert migrate(dsn).applied == ["0046.index-unheard-reversals"]
    assert value(db, f"select sha256 from marketplace.migration_files where {which}") != "0" * 64


def test_plain_yoyo_notes_the_files_too(empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo:
        yoyo.apply()
    with open_database(empty_dsn) as db:
        assert value(db, "select count(*) from marketplace.migration_files") == len(migration_ids(db_folder()))


def test_a_dry_run_of_a_new_database_says_everything_and_makes_nothing(empty_dsn: str) -> None:
    plan = plan_migration(empty_dsn)
    assert (plan.pending, plan.invalid, plan.functions_differ) == (migration_ids(db_folder()), [], True)
    assert plan.in_words()[0] == "would apply 0001.create-schema: stops nobody"
    assert (
        "would apply 0015.add-chk-reversal-pending-has-next-retry-at: stops readers and writers of seller_transfers"
        in (plan.in_words())
    )
    with open_database(empty_dsn) as db:
        assert rows(db, "select from pg_namespace where nspname = 'marketplace'") == []
        assert rows(db, "select from pg_class where relnamespace = 'public'::regnamespace") == []


def test_a_dry_run_says_what_migrate_then_does_and_no_more(db: Database, dsn: str) -> None:
    assert not plan_migration(dsn).is_something
    run(
        db,
        "update pg_index set indisvalid = false where indexrelid = 'marketplace.idx_seller_transfers_order'::regclass",
    )
    index = "idx_seller_transfers_family"
    run(db, f"update pg_index set indisvalid = false where indexrelid = 'marketplace.{index}'::regclass")
    run(db, "update marketplace.schema_release set functions_sha256 = 'of another release'")
    run(db, "delete from _yoyo_migration where migration_id like '0016%'")
    before, marks = contents(db), rows(db, "select * from _yoyo_migration order by 1")

    plan = plan_migration(dsn)

    assert [each[:4] for each in plan.pending] == ["0016", "0023"]
    assert (plan.invalid, plan.functions_differ) == ([index], True)
    assert contents(db) == before
    assert rows(db, "select * from _yoyo_migration order by 1") == marks
    assert migrate(dsn).applied == plan.pending
    assert not plan_migration(dsn).is_something


STOPPING = {
    "AccessExclusiveLock": "readers and writers",
    "ExclusiveLock": "writers",
    "ShareRowExclusiveLock": "writers",
    "ShareLock": "writers",
}


def test_whom_a_migration_stops_is_whom_its_locks_stop(empty_dsn: str) -> None:
    """Each is applied in a transaction, on a database at the one before, and the server says what it has locked."""
    with open_yoyo(empty_dsn) as yoyo, open_database(empty_dsn) as db:
        wrong = {}
        for migration in yoyo.backend.to_apply(yoyo.migrations):
            migration.load()
            if migration.use_transactions:
                found = locked_by(db, Path(migration.path).read_text(encoding="utf-8"))
                said = stops(Path(migration.path))
                # Views come with the functions, which are not loaded here.
                if found != {name: whom for name, whom in said.items() if name not in VIEWS}:
                    wrong[migration.id] = (found, said)
            else:
                assert stops(Path(migration.path)) == {}
            yoyo.backend.apply_one(migration)
        assert wrong == {}


def locked_by(db: Database, migration: str) -> dict[str, str]:
    there = [each["oid"] for each in rows(db, "select oid from pg_class where relkind = 'r'")]
    with db.transaction(force_rollback=True):
        run(db, migration)
        locks = rows(
            db,
            "select c.relname as name, l.mode from pg_locks as l inner join pg_class as c on c.oid = l.relation"
            " where l.pid = pg_backend_pid() and c.oid = any (%(there)s)"
            " and c.relnamespace = to_regnamespace('marketplace')",
            there=there,
        )
    found: dict[str, str] = {}
    for lock in locks:
        if who := STOPPING.get(lock["mode"]):
            found[lock["name"]] = max(who, found.get(lock["name"], who), key=["writers", "readers and writers"].index)
    return found


def test_the_functions_are_of_the_release_of_the_program(db: Database) -> None:
    assert value(db, "select marketplace._release()") == own_version()
    assert version_number(value(db, "select marketplace._oldest_runner()")) <= version_number(own_version())


def test_an_older_program_does_not_load_its_functions_over_newer_ones(db: Database, dsn: str) -> None:
    run(db, NEWER.format(function="_release"))
    with pytest.raises(MigrationRefused) as refused:
        migrate(dsn)
    assert "release 999.0.0, newer than this program" in str(refused.value)
    assert value(db, "select marketplace._release()") == "999.0.0"


NEWER = """
create or replace function marketplace.{function}() returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$ begin return '999.0.0'; end $$
"""


@pytest.mark.parametrize(
    ("release", "number"),
    [
        ("0.1.0", [0, 1, 0]),
        ("1.2", [1, 2]),
        ("10.20.30rc1", [10, 20, 30]),
        ("999999.0.0", [999999, 0, 0]),
        ("1000000.0.0", None),
        ("7", None),
        ("of last week", None),
        ("", None),
        (None, None),
    ],
)
def test_a_release_is_read_as_numbers(db: Database, release: str | None, number: list[int] | None) -> None:
    assert value(db, "select marketplace._release_number(%(release)s)", release=release) == number
    assert version_number(release or "") == tuple(number or ())


def test_a_runner_too_old_for_the_functions_neither_registers_nor_claims(db: Database) -> None:
    said = {"p_worker": "old", "p_version": "0.1.0", "p_stripe_account": None, "p_livemode": False}
    call(db, "register_runner", **said)
    call(db, "claim_due_transfers", p_worker="old", p_limit=1)
    run(db, NEWER.format(function="_oldest_runner"))
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("register_runner", said),
        ("claim_due_transfers", {"p_worker": "old", "p_limit": 1}),
        ("claim_due_reversals", {"p_worker": "old", "p_limit": 1}),
    ]
    for function, arguments in refusals:
        with pytest.raises(psycopg.Error) as refused:
            call(db, function, **arguments)
        assert (refused.value.sqlstate, refused.value.diag.column_name) == ("ST015", "p_version")
        assert f"Install release {own_version()}" in (refused.value.diag.message_hint or "")
    call(db, "register_runner", **{**said, "p_version": "999.0.0"})
    call(db, "register_runner", **{**said, "p_version": "999.0.1"})
    assert row(db, "select version from marketplace.runners where worker = 'old'")["version"] == "999.0.1"


def test_what_the_oldest_runner_served_calls_is_there_and_gives_what_it_knows(db: Database) -> None:
    oldest = version_number(value(db, "select marketplace._oldest_runner()"))
    served = {version: calls for version, calls in released_runners().items() if version_number(version) >= oldest}
    assert served, "raise _oldest_runner to a release whose runners were kept: make released"
    for version, calls in served.items():
        for statement, columns in calls.items():
            assert columns_of(db, statement) == columns, f"{version}: raise _oldest_runner and the program's version"


def test_every_statement_of_the_program_is_one(db: Database) -> None:
    assert len(runner_statements()) >= 10
    for statement in runner_statements():
        assert columns_of(db, statement)
