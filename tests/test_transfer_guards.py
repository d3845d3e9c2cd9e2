"""What never changes of a transfer, and what is never removed, whoever writes."""

import psycopg
import pytest

from tests.support.databases import Database, rows, value
from tests.support.raw_transfers import (
    add_transfer,
    enter,
    insert_transfer,
    outcome,
    run,
    update_transfer,
)
from tests.support.transfers import at_commit, transfer

pytest_plugins = ("tests.support.rolled_back",)

RECORDS = (
    "seller_transfers",
    "transfer_status_log",
    "transfer_attempts",
    "reversal_requests",
    "reversal_request_lines",
    "stripe_control",
    "retry_policy",
)

# Every column of a transfer, with an assignment that gives it another value. What has to go together goes together.
CHANGES = {
    "id": "id = id + 1000",
    "transfer_key": "transfer_key = 'other', root_id = null, split_from = null, stripe_transfer_id = 'tr_2'",
    "root_id": "root_id = root_id + 1000",
    "successor_of": "successor_of = 1, split_from = null",
    "compensates": "compensates = 1, root_id = null, split_from = null, made_for = 're_1:1',"
    " stripe_transfer_id = 'tr_2'",
    "made_for": "made_for = 're_1:1', successor_of = 1, split_from = null",
    "stripe_transfer_group": "stripe_transfer_group = 'other'",
    "split_from": "split_from = split_from + 1000",
    "order_id": "order_id = 'other'",
    "seller_id": "seller_id = 'other'",
    "destination_account": "destination_account = 'acct_other'",
    "source_charge": "source_charge = 'ch_other'",
    "original_amount": "original_amount = original_amount + 1",
    "amount": "amount = amount + 1",
    "currency": "currency = 'eur'",
    "status": "status = 'reversed', next_retry_at = null, lease_token = null, leased_at = null,"
    " lease_expires_at = null, leased_by = null, lease_action = null, call_unknown = false",
    "completed_at": "completed_at = completed_at + interval '1 second'",
    "stripe_transfer_id": "stripe_transfer_id = 'tr_other'",
    "stripe_reversal_id": "stripe_reversal_id = 'trr_other'",
    "reversal_request_id": "reversal_request_id = 're_other'",
    "named_reversal_id": "named_reversal_id = 'trr_other'",
    "parked_reason": "parked_reason = 'other'",
    "failure_code": "failure_code = 'other'",
    "failure_message": "failure_message = 'other'",
    "next_retry_at": "next_retry_at = next_retry_at + interval '1 minute'",
    "retry_count": "retry_count = retry_count + 1",
    "streak": "streak = streak + 1",
    "streak_verdict": "streak_verdict = 'other'",
    "streak_since": "streak_since = streak_since + interval '1 minute'",
    "waiting_since": "waiting_since = waiting_since + interval '1 minute'",
    "lease_token": "lease_token = gen_random_uuid()",
    "leased_at": "leased_at = leased_at + interval '1 minute'",
    "lease_expires_at": "lease_expires_at = lease_expires_at + interval '1 minute'",
    "leased_by": "leased_by = 'other'",
    "lease_action": "lease_action = 'other'",
    "call_part": "call_part = call_part + 1",
    "call_generation": "call_generation = call_generation + 1",
    "call_params": "call_params = '{\"amount\": 1}'",
    "call_minted_at": "call_minted_at = call_minted_at + interval '1 minute'",
    "call_last_sent_at": "call_last_sent_at = call_last_sent_at + interval '1 minute'",
    "call_absent_at": "call_absent_at = call_absent_at + interval '1 minute'",
    "call_replayed": "call_replayed = not call_replayed",
    "call_unknown": "call_unknown = not call_unknown",
    "created_at": "created_at = created_at - interval '1 second'",
    "updated_at": "updated_at = updated_at - interval '1 second'",
}

# Who is paid how much, the evidence for it, and what an idempotency key stands for.
NEVER_CHANGE = {
    "id",
    "transfer_key",
    "root_id",
    "split_from",
    "successor_of",
    "compensates",
    "made_for",
    "order_id",
    "seller_id",
    "destination_account",
    "source_charge",
    "original_amount",
    "amount",
    "currency",
    "completed_at",
    "stripe_transfer_id",
    "stripe_reversal_id",
    "reversal_request_id",
    "call_part",
    "call_params",
    "created_at",
}

# With a reversal of ours, it waits for nobody else's to be seen: a CHECK says so.
AWAITS_NO_OTHER = {"named_reversal_id": "23514"}

# A call under way with everything in it that a row may have.
EVERYTHING = (
    "stripe_reversal_id = 'trr_1', failure_code = 'code', failure_message = 'message',"
    " streak = 1, streak_verdict = 'accepted', streak_since = now(), waiting_since = now(),"
    " lease_token = gen_random_uuid(), leased_at = now(), lease_expires_at = now(), leased_by = 'worker',"
    " lease_action = 'reverse', call_generation = 2,"
    " call_params = '{\"amount\": 800}', call_last_sent_at = now(), call_absent_at = now(),"
    " call_unknown = true"
)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def add_full_transfer(db: Database) -> int:
    """A slice in `reversal_pending` with a value in every column but `transfer_key` and `parked_reason`."""
    run(
        db,
        "insert into marketplace.reversal_requests (reversal_request_id, order_id, reason)"
        " values ('re_other', 'order-1', 'refund')",
    )
    paid = {"source_charge": "ch_1", "stripe_transfer_id": "tr_1"}
    root_id = add_transfer(db, "completed", amount=100, **paid)
    part = {"root_id": root_id, "split_from": root_id, "original_amount": 900, "amount": 900, **paid}
    transfer_id = add_transfer(db, "reversal_pending", **part)
    add_transfer(db, "completed", **{**part, "original_amount": 100, "amount": 100, "split_from": transfer_id})
    update_transfer(db, transfer_id, "amount = 800")
    at_commit(db)
    update_transfer(db, transfer_id, EVERYTHING)
    return transfer_id


def refusal(db: Database, statement: str) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        run(db, statement)
    return refused.value.diag


def fill_records(db: Database) -> None:
    """At least one row in each table that keeps records."""
    transfer_id = add_transfer(db, "reversal_pending")
    run(
        db,
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        f" values ({transfer_id}, 'call', 'reverse', gen_random_uuid(), 'unknown', 'applied')",
    )
    run(
        db,
        "insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, asked, met, unmet)"
        f" values ('re_raw', {transfer_id}, 1000, 1000, 0)",
    )


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_no_record_can_be_deleted_or_truncated(db: Database, role: str) -> None:
    fill_records(db)
    db.execute(f"set session_replication_role = {role}".encode())
    for table in RECORDS:
        for statement in (f"delete from marketplace.{table}", f"truncate marketplace.{table} cascade"):
            diag = refusal(db, statement)
            assert (diag.sqlstate, diag.schema_name, diag.table_name) == ("ST002", "marketplace", table), statement
            assert diag.message_hint
        assert value(db, f"select count(*) > 0 from marketplace.{table}"), table


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_what_was_logged_or_asked_is_not_updated(db: Database, role: str) -> None:
    fill_records(db)
    db.execute(f"set session_replication_role = {role}".encode())
    for assignment in (
        "transfer_status_log set reason = 'other'",
        "transfer_status_log set to_status = to_status",
        "transfer_attempts set verdict = 'succeeded'",
        "reversal_requests set reason = 'manual'",
        "reversal_request_lines set asked = 999, met = 999",
        "stripe_control set database_id = gen_random_uuid()",
    ):
        diag = refusal(db, f"update marketplace.{assignment}")
        assert (diag.sqlstate, diag.table_name) == ("ST002", assignment.split()[0])


def test_what_a_request_could_take_and_whether_calls_are_made_may_be_updated(db: Database) -> None:
    fill_records(db)
    assert outcome(db, run, "update marketplace.reversal_request_lines set met = 400, unmet = 600") == "passes"
    assert outcome(db, run, "update marketplace.stripe_control set probe_count = 1") == "passes"


def test_the_changes_tried_here_are_of_every_column_there_is(db: Database) -> None:
    columns = rows(
        db,
        "select attname from pg_attribute where attrelid = 'marketplace.seller_transfers'::regclass"
        " and attnum > 0 and not attisdropped",
    )
    assert set(CHANGES) == {column["attname"] for column in columns}


@pytest.mark.parametrize("end", ["reversed", "permanently_failed"])
def test_a_row_that_reached_its_end_is_frozen_in_every_column(db: Database, end: str) -> None:
    transfer_id = add_full_transfer(db)
    update_transfer(
        db,
        transfer_id,
        "lease_token = null, leased_at = null, lease_expires_at = null, leased_by = null, lease_action = null,"
        " call_unknown = false",
    )
    enter(db, transfer_id, end)
    # What is null at the end gets a value that differs from null.
    changes = CHANGES | {
        "status": "status = 'pending'",
        "next_retry_at": "next_retry_at = now()",
        "lease_expires_at": "lease_expires_at = now()",
        "leased_at": "leased_at = now()",
    }
    found = {column: outcome(db, update_transfer, transfer_id, change) for column, change in changes.items()}
    assert found == dict.fromkeys(changes, "ST002") | {"status": "ST001"}
    before = transfer(db, transfer_id)
    assert outcome(db, update_transfer, transfer_id, "amount = amount, updated_at = updated_at") == "passes"
    assert transfer(db, transfer_id) == before


def test_money_and_evidence_never_change_and_the_rest_may(db: Database) -> None:
    transfer_id = add_full_transfer(db)
    found = {column: outcome(db, update_transfer, transfer_id, change) for column, change in CHANGES.items()}
    assert found == {column: "ST002" if column in NEVER_CHANGE else "passes" for column in CHANGES} | AWAITS_NO_OTHER


def test_what_is_set_is_not_taken_off_either(db: Database) -> None:
    transfer_id = add_full_transfer(db)
    optional = (
        "root_id",
        "split_from",
        "source_charge",
        "completed_at",
        "stripe_transfer_id",
        "stripe_reversal_id",
        "reversal_request_id",
        "call_params",
        "call_part",
    )
    for column in optional:
        diag = refusal(db, f"update marketplace.seller_transfers set {column} = null where id = {transfer_id}")
        assert (diag.sqlstate, diag.table_name, diag.column_name) == ("ST002", "seller_transfers", column)
        assert diag.message_hint
    assert refusal(db, "update marketplace.seller_transfers set transfer_key = null").column_name == "transfer_key"


def test_only_the_guard_refuses_those_changes(db: Database) -> None:
    """Without it every one of them passes: the tests above are not about some CHECK or foreign key."""
    transfer_id = add_full_transfer(db)
    db.execute("alter table marketplace.seller_transfers disable trigger _200_guard_frozen")
    db.execute("set session_replication_role = replica")  # the log's foreign key would hold the id
    found = {column: outcome(db, update_transfer, transfer_id, change) for column, change in CHANGES.items()}
    assert found == dict.fromkeys(CHANGES, "passes") | AWAITS_NO_OTHER


def test_the_guard_holds_in_a_session_that_skips_ordinary_triggers(db: Database) -> None:
    transfer_id = add_full_transfer(db)
    db.execute("set session_replication_role = replica")
    found = {column: outcome(db, update_transfer, transfer_id, CHANGES[column]) for column in NEVER_CHANGE}
    assert found == dict.fromkeys(NEVER_CHANGE, "ST002")


def test_what_is_not_known_yet_may_be_added_once(db: Database) -> None:
    legacy = insert_transfer(db, status="completed", completed_at="now")
    update_transfer(db, legacy, "stripe_transfer_id = 'tr_late'")
    assert outcome(db, update_transfer, legacy, "stripe_transfer_id = 'tr_later'") == "ST002"
    under_way = add_transfer(db, "reversal_pending")
    update_transfer(db, under_way, "stripe_reversal_id = 'trr_1'")
    update_transfer(db, under_way, "call_params = '{\"amount\": 1000}'")
    assert outcome(db, update_transfer, under_way, "call_params = '{\"amount\": 1}'") == "ST002"


def test_a_row_is_paid_by_becoming_completed_and_by_nothing_else(db: Database) -> None:
    transfer_id = add_transfer(db, "failed")
    gives_up = "status = 'permanently_failed', next_retry_at = null, failure_code = 'code', failure_message = 'message'"
    assert outcome(db, update_transfer, transfer_id, gives_up) == "passes"
    assert outcome(db, update_transfer, transfer_id, f"{gives_up}, completed_at = now()") == "ST002"
    completes = "status = 'completed', next_retry_at = null, completed_at = now()"
    assert outcome(db, update_transfer, transfer_id, completes) == "passes"
    enter(db, transfer_id, "completed")
    assert outcome(db, update_transfer, transfer_id, "completed_at = completed_at + interval '1 second'") == "ST002"


def test_a_generation_is_never_used_again_and_its_parameters_stay_through_a_change_of_status(db: Database) -> None:
    under_way = add_full_transfer(db)
    assert outcome(db, update_transfer, under_way, "call_generation = 1") == "ST002"
    assert outcome(db, update_transfer, under_way, "call_generation = 1, call_params = null") == "ST002"
    assert outcome(db, update_transfer, under_way, "call_generation = 3, call_params = null") == "passes"
    pending = add_transfer(db, "pending")
    update_transfer(db, pending, "call_params = '{\"amount\": 1000}', call_generation = 2")
    assert outcome(db, update_transfer, pending, "status = 'failed', call_params = null") == "ST002"
    assert outcome(db, update_transfer, pending, "status = 'failed', call_generation = 1") == "ST002"
    assert (
        outcome(db, update_transfer, pending, "status = 'failed', call_generation = 3, call_params = null") == "passes"
    )


@pytest.mark.parametrize("status", ["pending", "failed", "completed", "reversal_pending"])
def test_an_amount_may_shrink_for_a_split_and_by_itself_alone(db: Database, status: str) -> None:
    transfer_id = add_transfer(db, status, amount=900)
    for change, found in {
        "amount = amount - 1": "passes",
        "amount = amount + 1": "ST002",
        "amount = 0": "23514",
    }.items():
        assert outcome(db, update_transfer, transfer_id, change) == found, change


def test_an_amount_does_not_shrink_in_a_change_of_status(db: Database) -> None:
    transfer_id = add_transfer(db, "pending", amount=900)
    assert outcome(db, update_transfer, transfer_id, "status = 'failed'") == "passes"
    assert outcome(db, update_transfer, transfer_id, "status = 'failed', amount = amount - 1") == "ST002"


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_the_amount_of_a_row_that_may_be_being_paid_stays(db: Database, status: str) -> None:
    transfer_id = add_transfer(db, status)
    lease = (
        "lease_token = gen_random_uuid(), leased_at = now(), lease_expires_at = now(), leased_by = 'worker',"
        " lease_action = 'send'"
    )
    for sign in ("call_unknown = true", lease):
        with db.transaction(force_rollback=True):
            update_transfer(db, transfer_id, sign)
            assert outcome(db, update_transfer, transfer_id, "amount = amount - 1") == "ST002", sign


def test_a_slice_stands_for_no_other_transfer_than_its_root(db: Database) -> None:
    root_id = insert_transfer(db, status="completed", completed_at="now", amount=900)
    slice_id = insert_transfer(db, status="completed", completed_at="now", root_id=root_id, split_from=root_id)
    assert outcome(db, update_transfer, slice_id, "stripe_transfer_id = 'tr_1'") == "ST002"
    update_transfer(db, root_id, "stripe_transfer_id = 'tr_1'")
    assert outcome(db, update_transfer, slice_id, "stripe_transfer_id = 'tr_2'") == "ST002"
    assert outcome(db, update_transfer, slice_id, "stripe_transfer_id = 'tr_1'") == "passes"


def test_a_reversal_begins_a_new_obligation(db: Database) -> None:
    transfer_id = add_transfer(db, "pending")
    update_transfer(db, transfer_id, "call_params = '{\"amount\": 1000}', call_generation = 4")
    enter(db, transfer_id, "completed")
    update_transfer(db, transfer_id, "call_last_sent_at = now()")
    asked_back = (
        "status = 'reversal_pending', reversal_request_id = 're_raw', next_retry_at = now(),"
        " call_part = 1, call_generation = 1, call_params = null, call_minted_at = now()"
    )
    assert outcome(db, update_transfer, transfer_id, asked_back) == "passes"
    assert outcome(db, update_transfer, transfer_id, f"{asked_back}, amount = 1") == "ST002"


def test_a_reversal_is_taken_off_only_when_stripe_says_it_failed(db: Database) -> None:
    transfer_id = add_full_transfer(db)
    expected = {
        "stripe_reversal_id = null, streak_verdict = 'insufficient_balance'": "passes",
        "stripe_reversal_id = null, streak_verdict = 'transient'": "ST002",
        "stripe_reversal_id = null, streak = 0, streak_verdict = null, streak_since = null": "ST002",
        "stripe_reversal_id = 'trr_other', streak_verdict = 'insufficient_balance'": "ST002",
    }
    assert {change: outcome(db, update_transfer, transfer_id, change) for change in expected} == expected


def test_every_change_is_dated_and_a_change_of_nothing_is_not(db: Database) -> None:
    transfer_id = add_transfer(db, "pending")
    born = transfer(db, transfer_id)["updated_at"]
    update_transfer(db, transfer_id, "retry_count = retry_count")
    assert transfer(db, transfer_id)["updated_at"] == born
    update_transfer(db, transfer_id, "retry_count = 1, updated_at = '2000-01-01'")
    assert transfer(db, transfer_id)["updated_at"] > born
