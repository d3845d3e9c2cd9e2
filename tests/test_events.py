"""db/functions/ingest_event.sql, read_event.sql, try_event.sql, retry_events.sql, kept_events.sql: the inbox."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.events import (
    asked,
    by_events,
    charge,
    event,
    ingest,
    kept,
    refund,
    refunded,
    result,
    states,
    stripe_transfer,
)
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import call, contents, create_transfer, record_transfer, request_parts

pytest_plugins = ("tests.support.rolled_back",)

SHA = "0123456789abcdef" * 4
FROM_CHARGE = {"p_amount": 90, "p_source_charge": "ch_1", "p_charge_amount": 100}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    by_events(rolled_back_db)
    return rolled_back_db


@pytest.fixture
def session(connect: Connect) -> Database:
    """A session on a database of its own, in which events ask."""
    opened = impatient(connect)
    by_events(opened)
    return opened


def stored(db: Database, event_id: str) -> dict[str, Any]:
    return row(db, "select * from marketplace.stripe_events where event_id = %(id)s", id=event_id)


def test_an_event_is_stored_once_as_it_came(db: Database) -> None:
    given = event("charge.updated", charge(), created=1234567890)

    assert ingest(db, given, p_raw_sha256=SHA)["result"] == "acted"
    assert ingest(db, given)["result"] == "already_known"
    assert ingest(db, {**given, "data": {"object": {}}})["result"] == "already_known"

    found = stored(db, given["id"])
    assert found["payload"] == given
    assert (found["type"], found["livemode"], found["account"]) == ("charge.updated", False, None)
    assert (found["raw_sha256"], found["created_at"].timestamp()) == (SHA, 1234567890)
    assert (found["object_id"], found["charge_id"], found["attempts"]) == ("ch_1", "ch_1", 1)
    assert found["detail"]


def test_events_of_unknown_types_are_stored_and_ignored(db: Database) -> None:
    before = contents(db)
    for unknown in ("plan.created", "refund.succeeded", "charge.failed", "REFUND.UPDATED", "refund.updated.x", "ö"):
        given = event(unknown, {"id": 5, "object": "plan"})
        assert result(db, given) == "ignored"
        assert result(db, given) == "already_known"
        assert stored(db, given["id"])["detail"] == "Events of this type are not acted on."
    after = contents(db)
    assert {table for table in after if after[table] != before[table]} == {"stripe_events"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"livemode": True}, "live mode"),
        ({"livemode": None}, "no known mode"),
        ({"livemode": "false"}, "no known mode"),
        ({"account": "acct_seller"}, "acct_seller"),
    ],
)
def test_events_of_another_mode_or_account_are_stored_and_visibly_ignored(
    db: Database, changes: dict[str, Any], word: str
) -> None:
    values = {"p_worker": "worker-1", "p_version": "1", "p_stripe_account": "acct_us", "p_livemode": False}
    call(db, "register_runner", **values)
    record_transfer(db, 1, **FROM_CHARGE)

    came = ingest(db, event("refund.updated", refund(), **changes))

    assert came["result"] == "ignored"
    assert word in came["detail"]
    assert asked(db) == {}
    assert result(db, event("refund.updated", refund(), account="acct_us")) == "acted"
    assert asked(db) == {"key-1": 45}


def test_before_an_account_is_pinned_any_mode_is_taken(db: Database) -> None:
    record_transfer(db, 1, **FROM_CHARGE)
    assert result(db, event("refund.updated", refund(), livemode=True)) == "acted"
    assert asked(db) == {"key-1": 45}


def test_whatever_an_event_holds_it_is_stored_and_never_an_error(db: Database) -> None:
    record_transfer(db, 1, **FROM_CHARGE)
    odd: list[Any] = [None, True, 0, -1, 1.5, 10**400, "", "x" * 5000, "\x1b[2J\n", [], [1], {}, {"id": "x"}]
    honest = {"refund.updated": refund(), "charge.updated": charge(), "transfer.created": stripe_transfer()}
    names = ("id", "amount", "currency", "status", "charge", "payment_intent", "created", "metadata", "transfer_group")
    for kind, object_ in honest.items():
        for name in names:
            for wrong in odd:
                given = event(kind, {**object_, name: wrong})
                with db.transaction(force_rollback=True):
                    came = ingest(db, given)
                    assert came["result"] in ("acted", "kept", "ignored"), (name, wrong)
                    assert came["detail"].isprintable()
                    assert len(came["detail"]) <= 1000
    for name in ("created", "livemode", "account", "api_version", "request"):
        for wrong in odd:
            with db.transaction(force_rollback=True):
                assert result(db, event("plan.created", {}, **{name: wrong})) == "ignored", (name, wrong)


def test_an_event_that_is_kept_is_tried_again_when_it_comes_again(db: Database) -> None:
    record_transfer(db, 1, p_amount=90, p_source_charge="ch_1")
    given = event("refund.updated", refund())
    assert result(db, given) == "kept"
    assert result(db, given) == "kept"
    assert (stored(db, given["id"])["attempts"], stored(db, given["id"])["order_id"]) == (2, "order-1")

    db.execute("insert into marketplace.charges (charge_id, amount) values ('ch_1', 100) ")

    assert result(db, given) == "acted"
    assert result(db, given) == "already_known"
    found = stored(db, given["id"])
    assert (found["state"], found["next_step"], found["attempts"]) == ("acted", None, 3)
    assert asked(db) == {"key-1": 45}


def test_what_is_told_of_a_transfer_too_early_is_kept_until_its_order_changes(db: Database) -> None:
    db.execute(
        """
        create or replace function marketplace._note_transfer_created(p_transfer jsonb)
        returns text language plpgsql as $$
        begin
          if not exists (select from marketplace.seller_transfers) then
            raise exception 'not yet' using errcode = 'ST010', hint = 'Wait.';
          end if;
          return 'acted: it is known';
        end $$
        """
    )
    by_group = ingest(db, event("transfer.created", stripe_transfer(transfer_group="order-1")))
    ours = stripe_transfer(metadata={"order_id": "order-1"}, transfer_group="a-group")
    by_metadata = ingest(db, event("transfer.updated", ours))
    assert (by_group["result"], by_metadata["result"]) == ("kept", "kept")
    seen = kept(db, by_group["event_id"])
    assert (seen["order_id"], seen["detail"], seen["next_step"]) == ("order-1", "ST010: not yet", "Wait.")

    record_transfer(db, 1)

    assert set(states(db).values()) == {"acted"}


def test_what_there_is_nothing_to_do_for_is_ignored(db: Database) -> None:
    record_transfer(db, 1)
    assert result(db, event("transfer.reversed", stripe_transfer())) in ("ignored", "acted")


def test_kept_events_say_what_stands_in_the_way_and_what_to_type(db: Database) -> None:
    first, second = refunded(db, "re_1", charge="ch_1"), refunded(db, "re_2", charge="ch_2")

    found = call(db, "read_kept_events")

    assert [each["event_id"] for each in found] == [first["event_id"], second["event_id"]]
    for each, charge_id in zip(found, ("ch_1", "ch_2"), strict=True):
        assert (each["type"], each["order_id"], each["attempts"]) == ("refund.updated", None, 1)
        assert f"charge {charge_id}" in each["detail"]
        assert each["next_step"].startswith(f"select * from marketplace.note_charge(p_charge_id => '{charge_id}'")
        assert each["kept_since"]


def test_retry_events_tries_those_first_that_were_not_tried_for_longest(db: Database) -> None:
    names = [refunded(db, f"re_{n}", charge=f"ch_{n}")["event_id"] for n in range(1, 6)]

    def tried(limit: int) -> list[str]:
        return [each["event_id"] for each in call(db, "retry_events", p_limit=limit)]

    assert tried(2) == names[:2]
    assert tried(2) == names[2:4]
    assert tried(3) == [names[0], names[1], names[4]]  # oldest first among those it takes
    assert tried(100) == names
    assert {each["result"] for each in call(db, "retry_events")} == {"kept"}


def test_what_was_received_is_never_changed_or_removed(db: Database) -> None:
    given = event("refund.updated", refund())
    ingest(db, given)
    ingest(db, event("charge.dispute.created", {**refund("dp_1"), "object": "dispute"}))
    changes = {
        "stripe_events": (
            "event_id = 'evt_x'",
            "type = 'x'",
            "payload = '{}'",
            "raw_sha256 = null, livemode = true",
            "received_at = now()",
            "created_at = null",
            "charge_id = null",
            "object_id = 'x'",
        ),
        "stripe_refunds": ("refund_id = 're_x'", "amount = 1", "charge_id = 'ch_2'", "decided_by = 'app'"),
        "stripe_disputes": ("dispute_id = 'x'", "charge_id = 'ch_2'"),
    }
    for table, wrong in changes.items():
        for statement in (
            *(f"update marketplace.{table} set {each}" for each in wrong),
            f"delete from marketplace.{table}",
            f"truncate marketplace.{table}",
        ):
            with pytest.raises(psycopg.Error) as refused, db.transaction():
                db.execute(statement.encode())
            assert (statement, refused.value.sqlstate) == (statement, "ST002")


def test_an_end_stays_an_end_whoever_writes(db: Database) -> None:
    ingest(db, event("refund.failed", refund(status="failed")))
    ingest(db, event("charge.dispute.funds_reinstated", {**refund("dp_1", status="won"), "object": "dispute"}))
    for statement in (
        "update marketplace.stripe_refunds set status = 'succeeded', decided_by = 'app', ended_at = null",
        "update marketplace.stripe_disputes set funds_reinstated = false",
        "update marketplace.stripe_disputes set status = 'lost'",
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            db.execute(statement.encode())
        assert refused.value.sqlstate == "ST002"


def test_who_asks_is_said_with_a_reason_and_logged(db: Database) -> None:
    (control,) = call(db, "set_refunds_by", p_who="app", p_reason="the app knows its discounts")
    assert control["refunds_by"] == "app"
    logged = rows(db, "select change, reason from marketplace.stripe_control_log order by id desc limit 1")
    assert logged == [{"change": "refunds by app", "reason": "the app knows its discounts"}]


def test_a_snapshot_that_is_older_than_the_statement_is_refused(connect: Connect) -> None:
    other = connect(autocommit=False)
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    for function, arguments in (
        ("ingest_stripe_event", {"p_event": Jsonb(event("plan.created", {}))}),
        ("retry_events", {}),
        ("note_charge", {"p_charge_id": "ch_1"}),
    ):
        with pytest.raises(psycopg.Error) as refused:
            call(other, function, **arguments)
        assert refused.value.sqlstate == "25000"
        other.rollback()


def test_two_deliveries_of_one_event_at_once_are_acted_on_once(session: Database, connect: Connect) -> None:
    record_transfer(session, 1, **FROM_CHARGE)
    other, given = impatient(connect), event("refund.updated", refund())
    with ThreadPoolExecutor(max_workers=1) as pool:
        with session.transaction():
            first = ingest(session, given)
            again = pool.submit(ingest, other, given)
            wait_until_blocked(connect(), other)
        second = again.result()

    assert (first["result"], second["result"]) == ("acted", "already_known")
    assert asked(session) == {"key-1": 45}


@pytest.mark.parametrize("committed", [True, False])
def test_an_event_and_the_transfer_it_waits_for_see_each_other_at_once(
    session: Database, connect: Connect, committed: bool
) -> None:
    other, given = impatient(connect), event("refund.updated", refund())
    with ThreadPoolExecutor(max_workers=1) as pool:
        with session.transaction(force_rollback=not committed):
            record_transfer(session, 1, **FROM_CHARGE)
            telling = pool.submit(ingest, other, given)
            wait_until_blocked(connect(), other)
        assert telling.result()["result"] == ("acted" if committed else "kept")
        with session.transaction(force_rollback=not committed):
            ingest(session, event("refund.updated", refund("re_2", charge="ch_2")))
            recording = pool.submit(record_transfer, other, 2, **{**FROM_CHARGE, "p_source_charge": "ch_2"})
            wait_until_blocked(connect(), other)
        recording.result()

    assert asked(session) == ({"key-1": 45, "key-2": 45} if committed else {})
    assert set(states(session).values()) == {"acted" if committed else "kept"}


def test_a_transfer_has_the_lock_of_its_charge_before_it_writes_of_it(session: Database, connect: Connect) -> None:
    recorder, teller, observer = impatient(connect), impatient(connect), connect()
    with ThreadPoolExecutor(max_workers=2) as pool:
        with session.transaction(force_rollback=True):
            session.execute("insert into marketplace.charges (charge_id, amount) values ('ch_1', 100)")
            recording = pool.submit(record_transfer, recorder, 1, **FROM_CHARGE)
            wait_until_blocked(observer, recorder)
            telling = pool.submit(result, teller, event("charge.succeeded", charge()))
            wait_until_blocked(observer, recorder, teller)
            # Or each would wait for the other: one for the lock, one for the row.
            waits_for = value(
                observer, "select wait_event from pg_stat_activity where pid = %(pid)s", pid=teller.info.backend_pid
            )
        assert recording.result()["status"] == "completed"
        assert telling.result() == "acted"
    assert waits_for == "advisory"


def test_an_event_waits_for_a_request_of_its_order_and_takes_what_that_left(
    session: Database, connect: Connect
) -> None:
    record_transfer(session, 1, **FROM_CHARGE)
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with session.transaction():
            request_parts(session, {"key-1": 40}, "own-1")
            telling = pool.submit(refunded, other)
            wait_until_blocked(connect(), other)
        assert telling.result()["result"] == "acted"
    assert asked(session) == {"key-1": 45}


def test_retrying_waits_for_nobody(session: Database, connect: Connect) -> None:
    record_transfer(session, 1, p_amount=90, p_source_charge="ch_1")
    kept_event, other = refunded(session), impatient(connect)
    assert kept_event["result"] == "kept"
    with session.transaction():
        create_transfer(session, 2, p_order_id="order-1")
        assert call(other, "retry_events") == []
    with session.transaction():
        assert len(call(session, "retry_events")) == 1
        assert call(other, "retry_events") == []
        assert other.execute("select 1").fetchone()


def test_retrying_leaves_an_order_alone_that_somebody_is_changing(session: Database, connect: Connect) -> None:
    record_transfer(session, 1, p_amount=90, p_source_charge="ch_1")
    refunded(session)
    other = impatient(connect)
    with session.transaction():
        session.execute("select marketplace._lock_order('order-1')")
        assert call(other, "retry_events") == []
    assert len(call(other, "retry_events")) == 1


def test_what_another_try_mends_is_an_error_and_stores_nothing(session: Database, connect: Connect) -> None:
    record_transfer(session, 1, **FROM_CHARGE)
    other, given = impatient(connect, lock_timeout="100ms"), event("refund.updated", refund())
    with session.transaction():
        session.execute("select from marketplace.seller_transfers for update")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ingest(other, given)
    assert value(session, "select count(*) from marketplace.stripe_events") == 0
    assert result(other, given) == "acted"
    assert asked(session) == {"key-1": 45}


def test_an_event_that_takes_longer_than_a_statement_may_is_kept_and_not_lost(session: Database) -> None:
    session.execute("""
        create or replace function marketplace._act_on_event(p_event marketplace.stripe_events)
        returns text language plpgsql as $$ begin perform pg_sleep(60); return 'acted: too late'; end $$
    """)
    session.execute("set statement_timeout = '300 ms'")

    (became,) = call(
        session, "ingest_stripe_event", p_event=Jsonb(event("transfer.created", {"id": "tr_1", "object": "transfer"}))
    )

    session.execute("reset statement_timeout")
    assert (became["result"], became["detail"].startswith("57014: ")) == ("kept", True)
    assert value(session, "select state from marketplace.stripe_events") == "kept"


def test_what_waits_for_something_is_found_without_going_through_all_that_waits(db: Database) -> None:
    def readings() -> object:
        # The only index that has them all, and no more; the planner likes it as long as they are few.
        return value(db, "select pg_stat_get_xact_numscans('marketplace.idx_stripe_events_kept'::regclass)")

    for number in range(3):
        waits = refund(f"re_{number}", charge=f"ch_{number}", payment_intent=f"pi_{number}")
        assert result(db, event("refund.updated", waits)) == "kept"
        assert result(db, event("refund.updated", {**waits, "id": f"re_9{number}", "charge": None})) == "kept"
    before = readings()

    known = event("refund.updated", refund("re_5", charge="ch_5"))
    assert [result(db, known) for _ in range(2)] == ["kept", "kept"]
    assert result(db, event("charge.succeeded", charge("ch_1", payment_intent="pi_1"))) == "acted"
    call(db, "note_charge", p_charge_id="ch_2", p_amount=100, p_payment_intent="pi_2")
    record_transfer(db, 1, **FROM_CHARGE)

    assert readings() == before
    assert len(rows(db, "select * from marketplace.kept_events")) < 7
