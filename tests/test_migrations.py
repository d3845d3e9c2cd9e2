"""The migrations: forwards, backwards, twice, half-way, by our command and by plain yoyo."""

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from runner.migrate import migrate
from runner.schema import db_folder, own_release
from tests.support.databases import Database, open_database, row, rows, value
from tests.support.long_runs import IS_LONG
from tests.support.raw_transfers import STATUSES, add_transfer, insert_transfer, outcome, run, update_transfer
from tests.support.transfers import contents, create_transfer, record_transfer, request_parts, request_reversal
from tests.support.yoyo import open_yoyo, schema_and_rows_of, schema_of, yoyo_uri

ROLLBACKS = {path.name[:4]: path for path in (db_folder() / "migrations").glob("*.rollback.sql")}
PENDING_CHECK = "chk_reversal_pending_has_next_retry_at"


def forward_files() -> list[Path]:
    return sorted(p for p in (db_folder() / "migrations").glob("*.sql") if not p.name.endswith(".rollback.sql"))


def is_looked_at(migration_id: str) -> bool:
    """Whether there is a dump at this one. It costs most here: older ones share one by nines, but for long runs."""
    number = int(migration_id[:4])
    return IS_LONG or number % 9 == 2 or number > len(forward_files()) - 4


def but_for_comments(dump: list[str]) -> list[str]:
    kinds = ("COLUMN", "TABLE", "TYPE", "CONSTRAINT", "TRIGGER")
    # A trigger that is made anew has no comment until its migration says it again, and no heading for one in the dump.
    said = (*(f"COMMENT ON {kind} " for kind in kinds), "-- Name: TRIGGER ")
    return [line for line in dump if line.strip("-") and not line.startswith(said)]


def test_every_migration_is_named_by_number_verb_and_object_and_follows_the_one_before() -> None:
    before = None
    for number, path in enumerate(forward_files(), start=1):
        assert re.fullmatch(rf"{number:04}\.[a-z]+(-[a-z]+)+\.sql", path.name)
        depends = re.findall(r"^-- depends: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert depends == ([before] if before else [])
        before = path.stem


def test_every_migration_has_a_rollback_file_with_something_in_it() -> None:
    # Without one yoyo says it rolled back, and does nothing.
    for path in forward_files():
        rollback = path.with_suffix(".rollback.sql").read_text(encoding="utf-8")
        assert [line for line in rollback.splitlines() if line and not line.startswith("--")]
    assert sorted(ROLLBACKS) == [path.name[:4] for path in forward_files()]


def test_plain_yoyo_installs_everything(empty_dsn: str) -> None:
    yoyo = Path(sys.executable).with_name("yoyo")
    command = [yoyo, "apply", "--batch", "--no-config-file", "--database", yoyo_uri(empty_dsn)]
    subprocess.run([*map(str, command), str(db_folder() / "migrations")], check=True, capture_output=True, timeout=60)
    with open_database(empty_dsn) as db:
        (release,) = rows(db, "select migration_head, functions_sha256 from marketplace.schema_state()")
        assert release == {
            "migration_head": own_release().migration_head,
            "functions_sha256": own_release().functions_sha256,
        }
        assert create_transfer(db)["status"] == "pending"
        assert value(db, "select count(*) from marketplace.self_check()") == 0
    assert migrate(empty_dsn).applied == []


def test_our_command_and_plain_yoyo_leave_the_same_schema(dsn: str, empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo:
        yoyo.apply()
    assert schema_of(empty_dsn) == schema_of(dsn)


def test_a_migration_may_be_applied_again_when_only_its_mark_was_lost(dsn: str, empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo:
        for migration in yoyo.backend.to_apply(yoyo.migrations):
            yoyo.backend.apply_one(migration)
            yoyo.apply_again(migration)
        yoyo.load_functions()
    assert schema_of(empty_dsn) == schema_of(dsn)
    with open_database(dsn) as once, open_database(empty_dsn) as twice:
        for table in ("currencies", "retry_policy", "stripe_error_rules"):
            assert contents(twice)[table] == contents(once)[table]


# A mark can be lost only of the newest migration. What these write, later ones have changed or dropped.
CHANGED_SINCE = ("0003", "0006", "0009", "0014", "0036", "0038")


def test_migrations_applied_again_to_a_database_in_use_change_nothing(db: Database, dsn: str) -> None:
    for status in STATUSES:
        add_transfer(db, status)
    run(db, "update marketplace.retry_policy set max_retries = 3 where verdict = 'transient'")
    record_transfer(db, 9)
    request_parts(db, {"key-9": 300}, p_order_id="order-9")
    before = schema_and_rows_of(dsn)
    with open_yoyo(dsn) as yoyo:
        for migration in yoyo.migrations:
            if migration.id.startswith(CHANGED_SINCE):
                continue
            yoyo.apply_again(migration)
            # What a later migration says better of a table or column, that one says again when its turn comes.
            if is_looked_at(migration.id):
                assert but_for_comments(schema_and_rows_of(dsn)) == but_for_comments(before), migration.id
    assert schema_and_rows_of(dsn) == before


def test_down_to_nothing_and_up_again_gives_the_same_schema(dsn: str) -> None:
    before = schema_of(dsn)
    with open_yoyo(dsn) as yoyo:
        yoyo.roll_back_all()
        assert yoyo.applied() == []
    with open_database(dsn) as db:
        assert value(db, "select to_regnamespace('marketplace') is null")
    assert migrate(dsn).applied == [path.stem for path in forward_files()]
    assert schema_of(dsn) == before


def test_each_migration_goes_up_and_down_and_up_again(dsn: str, empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo:
        for migration in yoyo.backend.to_apply(yoyo.migrations):
            yoyo.backend.apply_one(migration)
            yoyo.backend.rollback_one(migration)
            yoyo.backend.apply_one(migration)
        yoyo.load_functions()
    assert schema_of(empty_dsn) == schema_of(dsn)


def test_each_rollback_leaves_what_its_migration_found(empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo:
        found = {}
        for migration in yoyo.backend.to_apply(yoyo.migrations):
            if is_looked_at(migration.id):
                found[migration.id] = schema_of(empty_dsn)
            yoyo.backend.apply_one(migration)
        for migration in yoyo.backend.to_rollback(yoyo.migrations):
            yoyo.backend.rollback_one(migration)
            # Those validated something: there is nothing to undo.
            validating = ("0016", "0022", "0030", "0054", "0060", "0067", "0069", "0071")
            if migration.id in found and not migration.id.startswith(validating):
                assert schema_of(empty_dsn) == found[migration.id], migration.id


# What is lost for good with a migration's table, and the rows that stand in the way.
KEEPING = {
    "0003": "seller_transfers",
    "0004": "transfer_status_log",
    "0005": "transfer_attempts",
    "0006": "reversal_requests",
    "0007": "charges",
    "0008": "seller_transfers",
    "0014": "seller_transfers",
    "0018": "stripe_control_log",
    "0036": "stripe_events",
    "0037": "stripe_refunds",
    "0039": "charges",
    "0040": "stripe_control_log",
    "0049": "stripe_control_log",
    "0053": "prunings",
    "0056": "dismissals",
}


def test_a_rollback_refuses_while_what_it_would_lose_is_in_use(db: Database) -> None:
    transfer_id = add_transfer(db, "reversal_pending")
    run(db, "insert into marketplace.charges (charge_id, amount, currency) values ('ch_1', 1000, 'usd')")
    run(db, "select * from marketplace.set_refunds_by('events', 'test')")
    dismissed = "'no-id:1', 'no Stripe id', 'None.', 'Leave it.'"
    run(db, f"insert into marketplace.dismissals (problem_id, problem, why, reason) values ({dismissed})")
    told = "'pending', 'ignored', '{}'"
    run(db, f"insert into marketplace.stripe_events (event_id, type, state, payload) values ('evt_1', {told})")
    refund = "'re_1', 1, 'usd', 'pending'"
    run(db, f"insert into marketplace.stripe_refunds (refund_id, amount, currency, status) values ({refund})")
    run(db, "insert into marketplace.stripe_control_log (change, reason) values ('account pinned', 'acct_1')")
    run(db, "insert into marketplace.stripe_control_log (change, reason) values ('database pinned', 'this one')")
    run(
        db,
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        f" values ({transfer_id}, 'call', 'reverse', gen_random_uuid(), 'unknown', 'applied')",
    )
    sha256 = "0" * 64
    run(
        db,
        "insert into marketplace.prunings (reason, ended_before_at, orders, transfers, log_entries, log_sha256,"
        f" attempts, attempts_sha256) values ('moved', now(), 1, 1, 1, '{sha256}', 0, '{sha256}')",
    )
    before = contents(db)
    for number, table in KEEPING.items():
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
            run(db, ROLLBACKS[number].read_text(encoding="utf-8"))
        assert f"marketplace.{table} holds rows" in str(refused.value)  # what a DBA reads is the point here
        assert refused.value.diag.message_hint
    assert contents(db) == before


def test_what_slices_need_is_not_rolled_back_while_there_is_one(db: Database) -> None:
    record_transfer(db)
    for views in ("0065", "0056"):  # they show who is whose slice
        run(db, ROLLBACKS[views].read_text(encoding="utf-8"))
    for undone in ("0025", "0021"):  # without slices nothing is lost
        assert outcome(db, run, ROLLBACKS[undone].read_text(encoding="utf-8")) == "passes"
    request_parts(db, {"key-1": 300})
    before = contents(db)
    for number in ("0025", "0021"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
            run(db, ROLLBACKS[number].read_text(encoding="utf-8"))
        assert refused.value.diag.message_hint
    assert contents(db) == before


def test_what_was_recorded_before_there_were_slices_can_be_refunded_in_parts(db: Database, dsn: str) -> None:
    record_transfer(db)
    request_reversal(db)
    record_transfer(db, 2)
    with open_yoyo(dsn) as yoyo:
        yoyo.roll_back("0065", "0056", "0026", "0025", "0024", "0023", "0022", "0021")
    found = contents(db)["transfer_status_log"]

    assert len(migrate(dsn).applied) == 8

    assert contents(db)["transfer_status_log"] == found
    assert value(db, "select bool_and(is_whole) from marketplace.reversal_requests") is True
    (taken,) = request_parts(db, {"key-2": 300}, "re_2", p_order_id="order-2")
    assert (taken["amount"], taken["call_part"]) == (300, 1)
    assert len(request_reversal(db)) == 1  # the request from before is known for everything
    assert value(db, "select count(*) from marketplace.self_check()") == 0


def test_a_currency_that_a_dba_changed_keeps_its_quantum(db: Database, dsn: str) -> None:
    run(db, "update marketplace.currencies set quantum = 1 where currency = 'isk'")
    with open_yoyo(dsn) as yoyo:
        yoyo.apply_again(yoyo["0021"])
    assert value(db, "select quantum from marketplace.currencies where currency = 'isk'") == 1


def test_the_schema_is_not_dropped_while_it_holds_tables(db: Database) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        run(db, ROLLBACKS["0001"].read_text(encoding="utf-8"))
    assert refused.value.diag.message_hint
    assert value(db, "select count(*) from marketplace.schema_release") == 1


def test_rolling_back_a_database_in_use_stops_before_it_loses_anything(db: Database, dsn: str) -> None:
    transfer_id = add_transfer(db, "reversal_pending")
    record_transfer(db, 9)
    request_parts(db, {"key-9": 300}, p_order_id="order-9")
    request_reversal(db, 9, p_reversal_request_id="re_10", p_amount=100)
    withdrawn = "withdrawn_at = clock_timestamp(), withdrawn_by = 'app', withdrawn_reason = 'The refund failed.'"
    run(db, f"update marketplace.reversal_requests set {withdrawn} where reversal_request_id = 're_10'")
    run(db, "select * from marketplace.set_refunds_by('events', 'test')")
    before = contents(db)
    with open_yoyo(dsn) as yoyo, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        yoyo.roll_back_all()
    assert outcome(db, update_transfer, transfer_id, "status = 'pending'") == "ST001"
    assert outcome(db, run, "delete from marketplace.seller_transfers") == "ST002"
    migrate(dsn)
    # What was dropped held nothing; what was done again is noted anew.
    anew = dict.fromkeys(("schema_release", "schema_functions", "migration_files"))
    assert contents(db) | anew == before | anew
    assert value(db, "select count(*) from marketplace.self_check()") == 0


def test_until_the_functions_are_loaded_every_guard_refuses_everything(empty_dsn: str) -> None:
    with open_yoyo(empty_dsn) as yoyo, open_database(empty_dsn) as db:
        yoyo.apply(functions=False)
        born = {"status": "completed", "completed_at": "now"}
        assert outcome(db, insert_transfer, **born) == "ST007"
        with pytest.raises(psycopg.Error) as refused:
            insert_transfer(db, **born)
        assert refused.value.diag.message_hint
        guarded = rows(db, "select distinct tgrelid::regclass::text as name from pg_trigger where not tgisinternal")
        assert len(guarded) == 13
        for table in guarded:
            assert outcome(db, run, f"truncate {table['name']} cascade") == "ST007", table
        assert outcome(db, run, "delete from marketplace.stripe_control") == "ST007"
        yoyo.load_functions()
        assert outcome(db, insert_transfer, **born) == "passes"
        assert outcome(db, run, "delete from marketplace.stripe_control") == "ST002"


def test_binding_the_guards_again_does_not_bring_the_stubs_back(db: Database, dsn: str) -> None:
    with open_yoyo(dsn) as yoyo:
        yoyo.apply_again(yoyo["0014"])
    assert outcome(db, insert_transfer, status="completed", completed_at="now") == "passes"
    assert outcome(db, insert_transfer, status="reversed") == "ST001"


def test_binding_the_guards_again_mends_a_trigger_that_was_dropped_or_disabled(db: Database, dsn: str) -> None:
    db.execute("drop trigger _100_refuse_delete on marketplace.seller_transfers")
    db.execute("alter table marketplace.seller_transfers disable trigger _100_guard_transition")
    assert value(db, "select count(*) from marketplace.self_check()") == 2
    with open_yoyo(dsn) as yoyo:
        yoyo.apply_again(yoyo["0014"])
        # A later migration made this one differ: requests can be withdrawn.
        left = value(db, "select object from marketplace.self_check()")
        assert left == "_100_refuse_change on marketplace.reversal_requests"
        yoyo.apply_again(yoyo["0029"])
    assert value(db, "select count(*) from marketplace.self_check()") == 0


def test_every_trigger_is_enabled_always(db: Database) -> None:
    triggers = rows(
        db,
        "select tgname, tgenabled::text from pg_trigger inner join pg_class on pg_class.oid = tgrelid"
        " where relnamespace = 'marketplace'::regnamespace and not tgisinternal",
    )
    assert triggers
    assert [trigger for trigger in triggers if trigger["tgenabled"] != "A"] == []


INDEXES = {
    "0011": "idx_seller_transfers_retry",
    "0012": "idx_seller_transfers_reversal_pending",
    "0013": "idx_seller_transfers_pending",
    "0023": "idx_seller_transfers_family",
    "0024": "idx_seller_transfers_stripe_transfer_id",
    "0041": "idx_seller_transfers_source_charge",
    "0042": "idx_reversal_requests_asked_for",
    "0057": "idx_stripe_events_order",
    "0061": "idx_stripe_events_payment",
    "0064": "idx_stripe_events_acted_on",
}


def test_an_index_left_invalid_is_built_anew_and_a_valid_one_is_kept(db: Database, dsn: str) -> None:
    def state(index: str) -> dict[str, object]:
        query = "select indisvalid, indexrelid from pg_index where indexrelid = to_regclass(%(index)s)"
        return row(db, query, index=f"marketplace.{index}")

    with open_yoyo(dsn) as yoyo:
        for number, index in INDEXES.items():
            first = state(index)
            yoyo.apply_again(yoyo[number])
            assert state(index) == first
            run(db, f"update pg_index set indisvalid = false where indexrelid = 'marketplace.{index}'::regclass")
            yoyo.apply_again(yoyo[number])
            assert state(index)["indisvalid"]
            assert state(index)["indexrelid"] != first["indexrelid"]
    assert value(db, "select count(*) from marketplace.self_check()") == 0


def test_a_table_with_an_old_bad_row_goes_through_the_new_check(db: Database, dsn: str) -> None:
    def is_valid() -> object:
        return value(
            db,
            "select convalidated from pg_constraint where conname = %(name)s"
            " and conrelid = 'marketplace.seller_transfers'::regclass",
            name=PENDING_CHECK,
        )

    good, bad = [add_transfer(db, "reversal_pending") for _ in range(2)]
    with open_yoyo(dsn) as yoyo:
        yoyo.roll_back("0016", "0015")
    db.execute("alter table marketplace.seller_transfers disable trigger user")
    update_transfer(db, bad, "next_retry_at = null")
    for trigger in rows(db, "select tgname from pg_trigger where tgrelid = 'marketplace.seller_transfers'::regclass"):
        if not trigger["tgname"].startswith("RI_"):
            run(db, f"alter table marketplace.seller_transfers enable always trigger {trigger['tgname']}")

    migrated = migrate(dsn)
    assert [applied[:4] for applied in migrated.applied] == ["0015", "0016"]
    assert is_valid() is False
    assert outcome(db, update_transfer, good, "next_retry_at = null") == "23514"
    (warning,) = migrated.warnings
    assert PENDING_CHECK in warning
    assert f"rows {bad} " in warning

    by_itself: list[tuple[str | None, str | None]] = []
    db.add_notice_handler(lambda notice: by_itself.append((notice.severity_nonlocalized, notice.message_primary)))
    run(db, forward_files()[15].read_text(encoding="utf-8"))
    ((severity, message),) = by_itself
    assert severity == "WARNING"
    assert warning.startswith(str(message))

    again = migrate(dsn)
    assert (again.applied, again.warnings) == ([], [warning])
    problem = row(db, "select * from marketplace.self_check()")
    assert (problem["object"], problem["detail"]) == (
        f"{PENDING_CHECK} on marketplace.seller_transfers",
        f"rows {bad} have no next_retry_at",
    )

    update_transfer(db, bad, "next_retry_at = now()")
    assert migrate(dsn).warnings == []
    assert is_valid() is True
    assert value(db, "select count(*) from marketplace.self_check()") == 0
