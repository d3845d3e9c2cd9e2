"""db/functions/notice_change.sql and database_identity.sql: a database that is not the one it was."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.events import dispute, event, ingest
from tests.support.failovers import control, last_seen, pass_since_failover, promote, register_own
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    create_transfer,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_reversal,
    success,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """A database that a runner has registered with; one session is enough for most."""
    register_own(rolled_back_db)
    return rolled_back_db


def changes(db: Database) -> list[str]:
    return [entry["change"] for entry in rows(db, "select change from marketplace.stripe_control_log order by id")]


def is_noticed(db: Database) -> bool:
    return control(db)["look_up_first_since"] is not None


def test_the_first_registration_pins_which_database_this_is(db: Database) -> None:
    is_so = row(
        db,
        "select (pg_control_system()).system_identifier::text, d.oid as database_oid, c.oid as table_oid"
        " from pg_database as d cross join pg_class as c"
        " where d.datname = current_database() and c.relname = 'seller_transfers'",
    )
    pinned = control(db)
    assert {name: pinned[name] for name in is_so} == is_so
    assert pinned["wal_timeline"] == 1  # of a server that was never promoted
    assert changes(db) == ["database pinned", "account pinned"]


def test_who_stays_what_it_was_is_not_noticed(db: Database) -> None:
    before = control(db), changes(db)
    refunded_transfer(db)
    assert [leased["action"] for leased in claim(db)] == ["reverse"]
    register_own(db, "worker-2")
    assert (control(db), changes(db)) == before


def test_a_runner_that_registered_with_an_earlier_release_pins_at_its_next_claim(db: Database) -> None:
    pinned = control(db)
    nothing = "system_identifier = null, wal_timeline = null, database_oid = null, table_oid = null"
    db.execute(f"update marketplace.stripe_control set {nothing}".encode())
    assert claim(db) == []
    assert control(db) == pinned


def test_a_promoted_standby_makes_no_call_for_two_leases_and_then_looks(db: Database) -> None:
    waiting = refunded_transfer(db)
    before = control(db)
    promote(db, "3 s")

    assert claim(db) == []

    after = control(db)
    seen = value(db, "select clock_timestamp() - %(since)s", since=after["lost_since"])
    assert timedelta(seconds=3) <= seen < timedelta(minutes=1)
    assert after["look_up_first_since"] > after["lost_since"]
    assert (after["wal_timeline"], after["reconcile_needed_since"]) == (before["wal_timeline"], None)
    pass_since_failover(db, "119 s")
    assert claim(db) == []
    pass_since_failover(db, "1 s")
    (leased,) = claim(db)
    assert (leased["id"], leased["action"]) == (waiting["id"], "look_up_reversals")


def test_a_promotion_is_logged_with_what_was_and_what_is(db: Database) -> None:
    promote(db)
    claim(db)
    noticed = row(db, "select * from marketplace.stripe_control_log order by id desc limit 1")
    assert noticed["change"] == "promotion noticed"
    was, now = noticed["reason"].split("; ")[1:]
    assert was.startswith("it was system identifier ")
    assert ", timeline 0, " in was
    assert now.startswith("now system identifier ")
    assert ", timeline 1, " in now


def test_a_promotion_is_told_as_a_warning_once_and_as_a_notice_while_it_is_silent(db: Database) -> None:
    told: list[tuple[str | None, str | None]] = []

    def handle(diag: psycopg.errors.Diagnostic) -> None:
        assert diag.message_hint
        told.append((diag.severity, diag.sqlstate))

    db.add_notice_handler(handle)
    try:
        promote(db)
        claim(db)
        claim(db)
        pass_since_failover(db, "2 min")
        claim(db)
    finally:
        db.remove_notice_handler(handle)
    assert told == [("WARNING", "ST014"), ("NOTICE", "ST014"), ("NOTICE", "ST014")]


# Each in a database where transfer 1 is paid, 2 asked back, 3 to be sent, 4 given up; key-5 is leased for its reversal.
EVERYBODY: dict[str, Callable[[Database, Any], object]] = {
    "claim_due_reversals": lambda db, _: claim(db),
    "claim_due_transfers": lambda db, _: claim_sends(db),
    "register_runner": lambda db, _: register_own(db, "worker-9"),
    "record_reversal_outcomes": lambda db, leased: call(
        db, "record_reversal_outcomes", p_outcomes=Jsonb([success(leased)])
    ),
    "record_transfer_outcomes": lambda db, _: call(db, "record_transfer_outcomes", p_outcomes=Jsonb([])),
    "create_transfer": lambda db, _: create_transfer(db, 3),
    "record_completed_transfer": lambda db, _: record_transfer(db, 1),
    "request_reversal": lambda db, _: request_reversal(db, 1),
    "withdraw_reversal_request": lambda db, _: call(
        db, "withdraw_reversal_request", p_reversal_request_id="re_2", p_reason="failed"
    ),
    "ingest_stripe_event": lambda db, _: call(
        db,
        "ingest_stripe_event",
        p_event=Jsonb(event("charge.updated", {"id": "ch_1", "object": "charge", "amount": 1, "currency": "usd"})),
    ),
    "retry_events": lambda db, _: call(db, "retry_events"),
    "note_charge": lambda db, _: call(db, "note_charge", p_charge_id="ch_1", p_amount=1),
    "note_reinstated": lambda db, _: call(db, "note_reinstated", p_dispute_id="dp_1", p_amount=1),
    "retry_now": lambda db, _: call(db, "retry_now", p_id=transfer_of(db, 3), p_reason="test"),
    "reopen": lambda db, _: call(db, "reopen", p_id=transfer_of(db, 4), p_reason="test"),
}


def transfer_of(db: Database, n: int) -> int:
    return int(value(db, "select id from marketplace.seller_transfers where transfer_key = %(key)s", key=f"key-{n}"))


def test_whoever_comes_first_notices(db: Database) -> None:
    record_one(db, refusal(claimed_call(db, 4), 404, "resource_missing"))
    leased = claimed_call(db, 5)
    record_transfer(db, 1)
    refunded_transfer(db, 2)
    create_transfer(db, 3)
    ingest(db, event("charge.dispute.created", dispute()))
    promote(db)
    for name, do in EVERYBODY.items():
        with db.transaction(force_rollback=True):
            do(db, leased)
            assert is_noticed(db), name
            assert changes(db)[-1] == "promotion noticed"


# They note, compare or put away, and move no row.
DECIDING_NOTHING = {"add_note", "dismiss", "prune_history", "transfers_to_reread", "finish_reconcile", "pay_for_read"}


def test_every_function_that_decides_by_what_is_known_asks_first(db: Database) -> None:
    asking = rows(
        db,
        "select proname, prosrc ~ '_notice_change\\(|_know_database\\(' as asks from pg_proc"
        " where pronamespace = 'marketplace'::regnamespace"
        " and (prosrc ~ '_require_read_committed\\(' or proname = 'register_runner')",
    )
    assert len(asking) >= 12
    assert {found["proname"] for found in asking if not found["asks"]} == DECIDING_NOTHING


@pytest.mark.parametrize("promoted", [False, True], ids=["the same", "promoted"])
def test_what_was_never_sent_is_given_up_for_a_refund_only_by_the_database_that_knows(
    db: Database, *, promoted: bool
) -> None:
    created = create_transfer(db)
    if promoted:
        promote(db)
    request_reversal(db)
    held = transfer(db, created["id"])
    assert (held["status"], held["failure_code"]) == (
        ("pending", None) if promoted else ("permanently_failed", "refunded_before_transfer")
    )


def test_what_is_created_again_for_a_refunded_order_is_looked_for_and_not_given_up(db: Database) -> None:
    record_transfer(db, 1)
    request_reversal(db, 1)
    promote(db)
    late = create_transfer(db, 2, p_order_id="order-1")
    assert late["status"] == "pending"


# What is otherwise, and what else has to be so.
STRANGERS = {
    "another server": "system_identifier = '1'",
    "another database": "database_oid = 1",
    "another table": "table_oid = 1",
    "a timeline of the future": "wal_timeline = wal_timeline + 1",
    "another server, promoted": "system_identifier = '1', wal_timeline = 0",
}


@pytest.mark.parametrize("pinned", STRANGERS.values(), ids=STRANGERS)
def test_a_restored_dump_and_a_clone_make_no_call(db: Database, pinned: str) -> None:
    refunded_transfer(db)
    db.execute(f"update marketplace.stripe_control set {pinned}".encode())

    assert claim(db) == []

    found = control(db)
    assert found["reconcile_needed_since"] is not None
    assert found["look_up_first_since"] is not None
    assert changes(db)[-1] == "reconcile needed"
    pass_since_failover(db, "3 days")
    register_own(db, "worker-2")
    assert claim(db) == claim_sends(db) == []
    assert value(db, "select marketplace.next_due_in()") is None
    assert changes(db).count("reconcile needed") == 1


@pytest.mark.parametrize(("seen", "is_promoted"), [("59 min 50 s", True), ("1 hour", False)])
def test_another_timeline_without_a_fresh_trace_of_a_runner_is_an_old_state(
    db: Database, seen: str, *, is_promoted: bool
) -> None:
    promote(db, seen)
    assert claim(db) == []
    assert (control(db)["reconcile_needed_since"] is None) == is_promoted


def test_how_fresh_the_trace_has_to_be_is_policy(db: Database) -> None:
    db.execute("update marketplace.stripe_control set promoted_within = '5 min'")
    promote(db, "6 min")
    claim(db)
    assert control(db)["reconcile_needed_since"] is not None


def test_without_any_trace_of_a_runner_it_is_an_old_state(db: Database) -> None:
    promote(db)
    db.execute("delete from marketplace.runners")
    register_own(db)
    assert control(db)["reconcile_needed_since"] is not None


def test_a_runner_that_is_seen_on_an_old_state_does_not_make_it_young(db: Database) -> None:
    refunded_transfer(db)
    promote(db, "2 hours")
    claim(db)
    last_seen(db, "0 s")
    register_own(db)
    assert claim(db) == []
    assert control(db)["reconcile_needed_since"] is not None


def test_while_it_is_to_be_reconciled_work_is_taken_in(db: Database) -> None:
    record_transfer(db, 1)
    created = create_transfer(db, 2)
    db.execute("update marketplace.stripe_control set system_identifier = '1'")
    assert len(request_reversal(db, 1)) == 1
    assert request_reversal(db, 2) == []
    assert create_transfer(db, 3)["status"] == "pending"
    charge = {"id": "ch_1", "object": "charge", "amount": 5, "currency": "usd"}
    (told,) = call(db, "ingest_stripe_event", p_event=Jsonb(event("charge.updated", charge)))
    assert told["result"] != "kept"
    assert transfer(db, created["id"])["status"] == "pending"  # nobody knows whether it was sent


def test_a_database_to_be_reconciled_needs_a_person_at_once(db: Database) -> None:
    assert rows(db, "select * from marketplace.needs_attention") == []
    db.execute("update marketplace.stripe_control set system_identifier = '1'")
    claim(db)
    (found,) = rows(db, "select * from marketplace.needs_attention_full")
    assert (found["problem"], found["is_urgent"]) == ("to reconcile", True)
    assert found["needed_since"] == control(db)["reconcile_needed_since"]
    assert "seller-transfers reconcile" in found["next_step"]
    since = rows(db, "select distinct reconcile_needed_since as since from marketplace.queue_health_full")
    assert since == [{"since": found["needed_since"]}]


def test_a_promoted_standby_asks_for_a_person_without_hurry(db: Database) -> None:
    promote(db)
    claim(db)
    (found,) = rows(db, "select * from marketplace.needs_attention_full")
    assert (found["problem"], found["is_urgent"]) == ("commits lost", False)
    assert "seller-transfers catch-up --since 2" in found["next_step"]


def test_the_silence_is_two_of_the_longest_leases_that_anybody_was_given(db: Database) -> None:
    refunded_transfer(db)
    assert claim(db, worker="patient", lease="10 min")[0]["lease_seconds"] == 600
    promote(db)
    assert claim(db, lease="1 s") == []
    pass_since_failover(db, "19 min 50 s")
    refunded_transfer(db, 2)
    assert claim(db, lease="1 s") == []
    due = value(db, "select marketplace.next_due_in('reversals')")
    assert timedelta(0) < due <= timedelta(seconds=10)
    pass_since_failover(db, "10 s")
    assert len(claim(db, lease="1 s")) == 1  # the other one is leased still, as far as this database knows


def test_a_longer_lease_than_ever_counts_from_the_claim_that_asks_for_it(db: Database) -> None:
    # It was given by the lost history, too, and that is lost with it.
    refunded_transfer(db)
    promote(db)
    claim(db)
    pass_since_failover(db, "2 min")
    assert claim(db, worker="patient", lease="10 min") == []
    assert claim(db, lease="60 s") == []


def test_what_a_lost_row_sent_is_looked_for_however_late_it_is_asked_for_again(db: Database) -> None:
    db.execute("update marketplace.stripe_control set system_identifier = '1'")
    last_seen(db, "9 days")
    claim(db)
    create_transfer(db)
    db.execute("update marketplace.stripe_control set reconcile_needed_since = null, reconcile_reason = null")
    db.execute(
        "update marketplace.stripe_control set (system_identifier, wal_timeline, database_oid, table_oid)"
        " = (select * from marketplace._database_identity())"
    )
    pass_since_failover(db, "2 min")
    (looked,) = claim_sends(db)
    assert looked["action"] == "look_up_transfer"
    age = value(db, "select clock_timestamp() - %(after)s", after=looked["created_after"])
    assert timedelta(days=10) < age < timedelta(days=10, minutes=1)


def test_of_two_failovers_the_first_loss_is_not_forgotten(db: Database) -> None:
    promote(db, "40 min")
    claim(db)
    lost_since = control(db)["lost_since"]
    promote(db, "2 s")
    claim(db)
    assert control(db)["lost_since"] == lost_since
    assert changes(db).count("promotion noticed") == 2


def test_a_proof_that_is_reported_to_the_promoted_standby_counts(db: Database) -> None:
    leased = claimed_call(db)
    promote(db)
    (told,) = call(db, "record_reversal_outcomes", p_outcomes=Jsonb([success(leased)]))
    assert (told["result"], told["status"]) == ("applied", "reversed")


WEAK = """
    create role weak nologin;
    grant usage on schema marketplace to weak;
    grant all on all tables in schema marketplace to weak;
    grant execute on all functions in schema marketplace to weak;
    alter function marketplace.register_runner(text, text, text, boolean) security invoker;
    revoke execute on function pg_control_system() from public;
    set local role weak;
"""


def test_a_server_that_does_not_tell_who_it_is_is_refused_until_a_person_says_so(rolled_back_db: Database) -> None:
    db = rolled_back_db
    db.execute(WEAK)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        register_own(db)
    assert refused.value.sqlstate == "ST013"
    assert "trust_database_identity" in (refused.value.diag.message_hint or "")

    call(db, "trust_database_identity", p_reason="a managed service")
    register_own(db)

    pinned = control(db)
    assert (pinned["system_identifier"], pinned["wal_timeline"]) == (None, None)
    assert pinned["table_oid"] is not None
    assert "identity on trust by person" in changes(db)
    # What it does tell is still compared.
    db.execute("update marketplace.stripe_control set database_oid = 1")
    register_own(db)
    assert control(db)["reconcile_needed_since"] is not None


def test_a_server_that_tells_no_longer_who_it_is_is_another_one(rolled_back_db: Database) -> None:
    db = rolled_back_db
    register_own(db)
    call(db, "trust_database_identity", p_reason="a managed service")
    db.execute(WEAK)
    register_own(db)
    assert control(db)["reconcile_needed_since"] is not None


def test_two_that_notice_at_once_follow_one_another(connect: Connect) -> None:
    one, two, observer = impatient(connect), impatient(connect), connect()
    register_own(observer)
    create_transfer(observer, 1)
    create_transfer(observer, 2)
    promote(observer)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with one.transaction():
            request_reversal(one, 1)
            waiting = pool.submit(request_reversal, two, 2)
            wait_until_blocked(observer, two)
            # Who waits has taken no order's lock yet.
            assert create_transfer(one, 3, p_order_id="order-2")["status"] == "pending"
        assert waiting.result() == []
    assert changes(observer).count("promotion noticed") == 1
