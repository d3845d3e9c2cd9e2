"""self_check(): finds each kind of thing that is not as it should be, and none in an installed schema."""

from typing import Any

import psycopg
import pytest

from tests.support.databases import Connect, Database, rows, value
from tests.support.raw_transfers import add_transfer, insert_transfer, run
from tests.support.tampering import tamper

pytest_plugins = ("tests.support.rolled_back",)

# Every trigger there is, by table: without it a record could change unseen.
GUARDS = {
    "seller_transfers": {
        "_100_guard_transition",
        "_100_refuse_delete",
        "_100_refuse_truncate",
        "_200_guard_frozen",
        "_800_conserve_amount",
        "_800_conserve_birth",
        "_900_log_birth",
        "_900_log_status",
    },
    "transfer_status_log": {"_100_refuse_change", "_100_refuse_truncate", "_900_match_pruning"},
    "transfer_attempts": {"_100_refuse_change", "_100_refuse_truncate", "_900_match_pruning"},
    "prunings": {"_100_refuse_change", "_100_refuse_truncate"},
    "reversal_requests": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_truncate"},
    "reversal_request_lines": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_truncate"},
    "stripe_control": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_repinning", "_100_refuse_truncate"},
    "stripe_control_log": {"_100_refuse_change", "_100_refuse_truncate"},
    "retry_policy": {"_100_refuse_delete", "_100_refuse_truncate"},
    "dismissals": {"_100_refuse_change", "_100_refuse_truncate"},
    "stripe_events": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_truncate"},
    "stripe_refunds": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_truncate"},
    "stripe_disputes": {"_100_refuse_change", "_100_refuse_delete", "_100_refuse_truncate"},
}
ALL_GUARDS = [(table, trigger) for table, triggers in GUARDS.items() for trigger in sorted(triggers)]
INDEXES = (
    "idx_seller_transfers_compensates",
    "idx_seller_transfers_family",
    "idx_seller_transfers_made_for",
    "idx_seller_transfers_order",
    "idx_seller_transfers_parked",
    "idx_transfer_attempts_alarming",
    "idx_seller_transfers_pending",
    "idx_seller_transfers_retry",
    "idx_seller_transfers_reversal_pending",
    "idx_seller_transfers_stripe_transfer_id",
    "idx_seller_transfers_source_charge",
    "idx_seller_transfers_given_up",
    "idx_seller_transfers_without_transfer_id",
    "idx_reversal_request_lines_unmet",
    "idx_stripe_events_unheard",
    "idx_stripe_events_acted_on",
    "idx_reversal_requests_asked_for",
    "idx_stripe_events_charge",
    "idx_stripe_events_kept",
    "idx_stripe_events_order",
    "idx_stripe_events_payment",
    "idx_seller_transfers_successor_of",
)
PENDING_CHECK = "chk_reversal_pending_has_next_retry_at"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def problems(db: Database) -> list[dict[str, Any]]:
    """What self_check() finds, without the hints; each must have one."""
    return checked(db, "self_check()")


def schema_problems(db: Database) -> list[dict[str, Any]]:
    """What it finds of the schema itself: the rest of self_check() is slower, and many things are tried here."""
    return checked(db, "_check_schema()")


def checked(db: Database, function: str) -> list[dict[str, Any]]:
    found = rows(db, f"select * from marketplace.{function}")
    assert all(problem["hint"] for problem in found)
    return [{"problem": p["problem"], "object": p["object"], "detail": p["detail"]} for p in found]


def problem(kind: str, thing: str, detail: str | None = None) -> dict[str, Any]:
    return {"problem": kind, "object": thing, "detail": detail}


def test_an_installed_schema_has_no_problem(db: Database) -> None:
    assert problems(db) == []


def test_the_guards_are_all_the_triggers_there_are(db: Database) -> None:
    bound = rows(
        db,
        "select tgrelid::regclass::text as relation, tgname from pg_trigger"
        " inner join pg_class on pg_class.oid = tgrelid"
        " where relnamespace = 'marketplace'::regnamespace and not tgisinternal",
    )
    expected = {(f"marketplace.{table}", trigger) for table, trigger in ALL_GUARDS}
    assert {(trigger["relation"], trigger["tgname"]) for trigger in bound} == expected


def test_a_missing_guard_is_found(db: Database) -> None:
    for table, trigger in ALL_GUARDS:
        with db.transaction(force_rollback=True):
            run(db, f"drop trigger {trigger} on marketplace.{table}")
            assert schema_problems(db) == [problem("guard missing", f"{trigger} on marketplace.{table}")]


def test_a_guard_that_fires_less_often_than_it_should_is_missing(db: Database) -> None:
    for table, trigger, instead in (
        ("seller_transfers", "_100_guard_transition", "before insert or update on {} for each row when (false)"),
        ("seller_transfers", "_100_guard_transition", "before insert on {} for each row"),
        ("seller_transfers", "_100_guard_transition", "before insert or update of created_at on {} for each row"),
        ("transfer_status_log", "_100_refuse_change", "before update on {} for each row when (old.id <> new.id)"),
        ("stripe_events", "_100_refuse_change", "before update on {} for each row when (false)"),
    ):
        with db.transaction(force_rollback=True):
            function = value(
                db,
                "select tgfoid::regproc::text from pg_trigger where tgname = %(trigger)s"
                " and tgrelid = %(table)s::regclass",
                trigger=trigger,
                table=f"marketplace.{table}",
            )
            at = instead.format(f"marketplace.{table}")
            run(db, f"create or replace trigger {trigger} {at} execute function {function}()")
            run(db, f"alter table marketplace.{table} enable always trigger {trigger}")
            assert schema_problems(db) == [problem("guard missing", f"{trigger} on marketplace.{table}")], instead


def test_what_gets_between_functions_and_tables_is_found_and_the_hint_removes_it(db: Database) -> None:
    run(
        db,
        "create function public.swallow() returns trigger language plpgsql as $$ begin return null; end $$",
    )
    for name, statement in (
        ("rule", "create rule never as on insert to marketplace.transfer_attempts do instead nothing"),
        ("row security", "alter table marketplace.seller_transfers force row level security"),
        ("row security", "alter table marketplace.stripe_events enable row level security"),
        (
            "foreign trigger",
            "create trigger never before insert on marketplace.transfer_attempts"
            " for each row execute function public.swallow()",
        ),
    ):
        run(db, statement)
        found = rows(db, "select * from marketplace._check_between()")
        assert [each["problem"] for each in found] == [name]
        assert name in {each["problem"] for each in rows(db, "select * from marketplace.self_check(false)")}
        run(db, found[0]["hint"])
        assert rows(db, "select * from marketplace._check_between()") == []


def test_a_guard_that_some_session_would_skip_is_found_and_the_hint_mends_it(db: Database) -> None:
    for table, trigger in ALL_GUARDS:
        for state in ("disable", "enable", "enable replica"):
            run(db, f"alter table marketplace.{table} {state} trigger {trigger}")
            assert schema_problems(db) == [problem("trigger not ENABLE ALWAYS", f"{trigger} on marketplace.{table}")]
            run(db, value(db, "select hint from marketplace._check_schema()"))
            assert schema_problems(db) == []


def test_a_missing_index_is_found(db: Database) -> None:
    for index in INDEXES:
        with db.transaction(force_rollback=True):
            run(db, f"drop index marketplace.{index}")
            assert schema_problems(db) == [problem("index missing", f"marketplace.{index}")]


def test_an_index_whose_build_was_cut_off_is_found(connect: Connect) -> None:
    db = connect()
    columns = {"transfer_key": "key-1", "status": "completed", "completed_at": "now"}
    insert_transfer(db, **columns, stripe_transfer_id="tr_1")
    insert_transfer(db, **{**columns, "transfer_key": "key-2"}, stripe_transfer_id="tr_2")
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute("create unique index concurrently idx_twice on marketplace.seller_transfers (order_id)")
    assert problems(db) == [problem("index not valid", "marketplace.idx_twice")]
    run(db, value(db, "select hint from marketplace.self_check()").split(";")[0])
    assert problems(db) == []


def test_a_constraint_that_is_not_valid_is_found_with_the_rows_that_break_it(db: Database) -> None:
    add_transfer(db, "reversal_pending")
    bad = unvalidated_with_bad_rows(db, 2)
    found = problem(
        "constraint not valid",
        f"{PENDING_CHECK} on marketplace.seller_transfers",
        f"rows {bad[0]}, {bad[1]} have no next_retry_at",
    )
    assert problems(db) == [found]
    db.execute("update marketplace.seller_transfers set next_retry_at = now() where next_retry_at is null")
    assert problems(db) == [found | {"detail": None}]  # mended, and still to be validated
    value(db, "select marketplace.validate_constraints()")
    assert problems(db) == []


def test_of_many_rows_that_break_a_constraint_twenty_are_named_and_the_rest_is_not_hidden(db: Database) -> None:
    bad = unvalidated_with_bad_rows(db, 21)
    named = ", ".join(str(transfer_id) for transfer_id in bad[:20])
    assert [p["detail"] for p in problems(db)] == [f"rows {named} and more have no next_retry_at"]


def test_a_foreign_key_that_is_not_valid_is_found_too(db: Database) -> None:
    table = "marketplace.seller_transfers"
    db.execute("alter table marketplace.seller_transfers drop constraint fk_seller_transfers_currency")
    add_transfer(db, "pending", currency="xyz")
    db.execute(
        "alter table marketplace.seller_transfers add constraint fk_seller_transfers_currency"
        " foreign key (currency) references marketplace.currencies (currency) not valid"
    )
    found = [problem("constraint not valid", f"fk_seller_transfers_currency on {table}")]
    assert problems(db) == found
    value(db, "select marketplace.validate_constraints()")  # warns, and does not fail
    assert problems(db) == found


def unvalidated_with_bad_rows(db: Database, count: int) -> list[int]:
    """Bring the table to where the CHECK was just added to rows from before; the ids of those that break it."""
    run(db, f"alter table marketplace.seller_transfers drop constraint {PENDING_CHECK}")
    ids = [add_transfer(db, "reversal_pending") for _ in range(count)]
    db.execute("update marketplace.seller_transfers set next_retry_at = null where id = any (%s)", (ids,))
    run(
        db,
        f"alter table marketplace.seller_transfers add constraint {PENDING_CHECK}"
        " check (status <> 'reversal_pending' or next_retry_at is not null) not valid",
    )
    return ids


def test_a_missing_check_is_found_whichever_it_is(db: Database) -> None:
    table = "marketplace.seller_transfers"
    checks = rows(db, f"select conname from pg_constraint where conrelid = '{table}'::regclass and contype = 'c'")
    assert len(checks) > 20
    for check in checks:
        with db.transaction(force_rollback=True):
            run(db, f"alter table {table} drop constraint {check['conname']}")
            assert schema_problems(db) == [problem("constraint missing", f"{check['conname']} on {table}")]


def test_what_each_part_finds_is_found_by_the_whole(db: Database) -> None:
    transfer_id = add_transfer(db, "completed")
    run(db, "drop index marketplace.idx_seller_transfers_parked")
    run(db, "alter function marketplace.reopen rename to reopened")
    run(db, "grant select on marketplace.charges to public")
    run(db, "insert into public.yoyo_lock (locked, ctime, pid) values (1, now() - interval '2 days', 4711)")
    tamper(db, "delete from marketplace.transfer_status_log")
    found = {(each["problem"], each["object"]) for each in problems(db)}
    assert found == {
        ("index missing", "marketplace.idx_seller_transfers_parked"),
        ("function missing", "marketplace.reopen(bigint,text,text)"),
        ("foreign function", "marketplace.reopened(bigint,text,text)"),
        ("open grant", "table marketplace.charges"),
        ("open grant", "routine marketplace.reopened(bigint,text,text)"),
        ("stale lock", "public.yoyo_lock"),
        ("history does not hold", f"transfer {transfer_id}"),
    }
    without_log = rows(db, "select problem, is_urgent from marketplace.self_check(p_with_log => false)")
    assert {each["problem"] for each in without_log} == {problem for problem, _ in found} - {"history does not hold"}
    assert all(each["is_urgent"] for each in without_log)


def test_of_a_history_that_does_not_hold_twenty_rows_are_named_and_the_rest_is_not_hidden(db: Database) -> None:
    ids = [add_transfer(db, "completed") for _ in range(22)]
    tamper(db, "delete from marketplace.transfer_status_log")
    found = rows(db, "select * from marketplace.self_check()")
    assert [each["object"] for each in found] == [*(f"transfer {each}" for each in ids[:20]), "2 more"]
    assert {each["detail"] for each in found} == {"has no log", None}
    assert len(rows(db, found[-1]["hint"])) == 22


def test_a_sequence_that_has_fallen_behind_is_found_and_the_hint_mends_it(db: Database) -> None:
    add_transfer(db, "pending", id=1_000_000)
    (seen,) = problems(db)
    assert (seen["problem"], seen["object"]) == ("sequence behind", "marketplace.seller_transfers_id_seq")
    assert seen["detail"].endswith(", marketplace.seller_transfers has 1000000")
    run(db, value(db, "select hint from marketplace.self_check()"))
    assert problems(db) == []
    assert add_transfer(db, "pending") == 1_000_001
