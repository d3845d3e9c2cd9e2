"""db/functions/register_runner.sql: who may claim, and which Stripe account the database belongs to."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    call,
    lapse_lease,
    record,
    record_one,
    refunded_transfer,
    refunded_transfers,
    refusal,
    report,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)

ACCOUNT, OTHER = "acct_1Own", "acct_1Other"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def register(db: Database, worker: str = "blue", **changes: Any) -> DictRow:
    """A runner of the account in test mode, unless it says otherwise."""
    said = {"p_version": "1.0", "p_stripe_account": ACCOUNT, "p_livemode": False, **changes}
    (registered,) = call(db, "register_runner", p_worker=worker, **said)
    return registered


def refused(db: Database, function: str, **arguments: Any) -> psycopg.errors.Diagnostic:
    """What the refusal says."""
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        call(db, function, **arguments)
    assert caught.value.diag.message_hint
    return caught.value.diag


def claim_as(db: Database, worker: str) -> list[DictRow]:
    """Claim without registering first."""
    return call(db, "claim_due_reversals", p_worker=worker, p_limit=10)


def may_not_claim(db: Database, worker: str) -> psycopg.errors.Diagnostic:
    diag = refused(db, "claim_due_reversals", p_worker=worker, p_limit=10)
    assert (diag.sqlstate, diag.column_name) == ("ST008", "p_worker")
    return diag


def runner(db: Database, worker: str = "blue") -> DictRow:
    return row(db, "select * from marketplace.runners where worker = %(worker)s", worker=worker)


def control(db: Database) -> DictRow:
    return row(db, "select * from marketplace.stripe_control")


def pins_logged(db: Database) -> list[str]:
    found = rows(db, "select reason from marketplace.stripe_control_log where change = 'account pinned' order by id")
    return [each["reason"] for each in found]


def test_a_runner_registers_and_may_claim(db: Database) -> None:
    refunded_transfer(db)
    may_not_claim(db, "blue")

    registered = register(db)

    assert registered["registered_at"] == registered["last_seen_at"]
    assert {name: registered[name] for name in registered if not name.endswith(("registered_at", "seen_at"))} == {
        "worker": "blue",
        "version": "1.0",
        "stripe_account": ACCOUNT,
        "livemode": False,
        "ended_at": None,
        "ended_reason": None,
    }
    assert len(claim_as(db, "blue")) == 1


def test_the_first_runner_pins_account_and_mode_and_that_is_logged(db: Database) -> None:
    registered = register(db)

    pinned = control(db)
    assert (pinned["stripe_account"], pinned["livemode"]) == (ACCOUNT, False)
    assert pinned["pinned_at"] == registered["registered_at"]
    assert pins_logged(db) == ["account acct_1Own in test mode, by runner blue"]

    register(db, "green")
    assert pins_logged(db) == ["account acct_1Own in test mode, by runner blue"]


@pytest.mark.parametrize(
    ("changes", "column", "theirs"),
    [
        ({"p_stripe_account": OTHER}, "p_stripe_account", "account acct_1Other in test mode"),
        ({"p_livemode": True}, "p_livemode", "account acct_1Own in live mode"),
        ({"p_stripe_account": OTHER, "p_livemode": True}, "p_livemode", "account acct_1Other in live mode"),
        ({"p_stripe_account": None, "p_livemode": True}, "p_livemode", "an account in live mode"),
    ],
)
def test_another_account_or_mode_is_refused_and_both_are_named(
    db: Database, changes: dict[str, Any], column: str, theirs: str
) -> None:
    register(db)
    others = {"p_version": "1.0", "p_stripe_account": ACCOUNT, "p_livemode": False, **changes}

    diag = refused(db, "register_runner", p_worker="green", **others)

    assert (diag.sqlstate, diag.column_name) == ("ST006", column)
    for words in (theirs, "account acct_1Own in test mode"):  # who is confronted with it must know what is what
        assert words in (diag.message_primary or "")
    assert "a key of account acct_1Own in test mode" in (diag.message_hint or "")
    may_not_claim(db, "green")


def test_a_key_that_may_not_name_its_account_is_held_to_its_mode_and_pins_no_account(db: Database) -> None:
    register(db, p_stripe_account=None)
    assert (control(db)["stripe_account"], control(db)["livemode"]) == (None, False)
    pinned_at = control(db)["pinned_at"]
    assert refused(
        db, "register_runner", p_worker="live", p_version="1.0", p_stripe_account=None, p_livemode=True
    ).sqlstate == ("ST006")

    register(db, "green")
    assert (control(db)["stripe_account"], control(db)["pinned_at"]) == (ACCOUNT, pinned_at)
    register(db, "red", p_stripe_account=None)

    assert pins_logged(db) == [
        "an account in test mode, by runner blue",
        "account acct_1Own in test mode, by runner green",
    ]
    assert len(rows(db, "select from marketplace.runners where worker in ('blue', 'green', 'red')")) == 3


def test_two_first_runners_at_once_of_different_accounts_one_is_refused(connect: Connect) -> None:
    first, second = connect(), impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with first.transaction():
            register(first)
            late = pool.submit(register, second, "green", p_stripe_account=OTHER)
            wait_until_blocked(connect(), second)
        with pytest.raises(psycopg.Error) as caught:
            late.result()
    assert caught.value.sqlstate == "ST006"


@pytest.mark.parametrize(
    "change",
    [
        "stripe_account = 'acct_1Other'",
        "stripe_account = null",
        "livemode = true",
        "livemode = null, pinned_at = null, stripe_account = null",
        "pinned_at = now()",
    ],
)
def test_what_is_pinned_stays_whoever_updates_it(db: Database, change: str) -> None:
    register(db)

    for role in ("origin", "replica"):
        db.execute(f"set local session_replication_role = {role}".encode())
        with pytest.raises(psycopg.Error) as caught, db.transaction():
            db.execute(f"update marketplace.stripe_control set {change}".encode())
        assert caught.value.sqlstate == "ST002"


def test_registering_again_renews(db: Database) -> None:
    register(db)
    db.execute(
        "update marketplace.runners"
        " set registered_at = now() - interval '1 day', last_seen_at = now() - interval '1 h',"
        " ended_at = now(), ended_reason = 'Stripe refused its key'"
    )
    may_not_claim(db, "blue")

    again = register(db, p_version="1.1")

    assert (again["version"], again["ended_at"], again["ended_reason"]) == ("1.1", None, None)
    assert again["registered_at"] == again["last_seen_at"] > value(db, "select now() - interval '1 min'")
    claim_as(db, "blue")


def test_a_claim_notes_that_the_runner_was_seen_at_most_every_ten_seconds(db: Database) -> None:
    registered = register(db)
    claim_as(db, "blue")
    assert runner(db)["last_seen_at"] == registered["last_seen_at"]

    db.execute("update marketplace.runners set last_seen_at = last_seen_at - interval '11 s'")
    claim_as(db, "blue")
    assert runner(db)["last_seen_at"] > registered["last_seen_at"]


def test_a_runner_is_seen_also_while_calls_are_paused(db: Database) -> None:
    register(db)
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    db.execute("update marketplace.runners set last_seen_at = now() - interval '1 h'")

    assert claim_as(db, "blue") == []

    assert runner(db)["last_seen_at"] > value(db, "select now() - interval '1 min'")


def test_a_401_ends_the_registration_of_the_worker_that_made_the_call(db: Database) -> None:
    refunded_transfers(db, 2)
    register(db)
    register(db, "green")
    (first, second) = claim_as(db, "blue")

    record(db, refusal(first, 401, message="Invalid API Key provided: sk_test_***"), success(second))

    ended = runner(db)
    assert ended["ended_reason"] == "Stripe refused its key: Invalid API Key provided: sk_test_***"
    assert ended["ended_at"] is not None
    assert runner(db, "green")["ended_at"] is None
    assert "Stripe refused its key" in (may_not_claim(db, "blue").message_primary or "")
    assert claim_as(db, "green") == []  # paused, but it may


@pytest.mark.parametrize(
    "answer",
    [
        success,
        timeout,
        lambda leased: refusal(leased, 403, "account_invalid"),
        lambda leased: refusal(leased, 404, "resource_missing"),
        lambda leased: refusal(leased, 429, "rate_limit"),
        lambda leased: report(leased, http_status=401, error_message="a page of some proxy's"),
        lambda leased: report(leased, sent=False),
    ],
    ids=["200", "no answer", "403", "404", "429", "401 not of Stripe's", "not sent"],
)
def test_nothing_else_ends_a_registration(db: Database, answer: Any) -> None:
    refunded_transfer(db)
    register(db)
    (leased,) = claim_as(db, "blue")

    record_one(db, answer(leased))

    assert runner(db)["ended_at"] is None


def test_a_late_401_of_the_old_key_does_not_end_the_new_registration(db: Database) -> None:
    refunded_transfer(db)
    register(db)
    (leased,) = claim_as(db, "blue")
    register(db)

    assert record_one(db, refusal(leased, 401))["result"] == "applied"

    assert runner(db)["ended_at"] is None


def test_a_stale_401_ends_no_registration(db: Database) -> None:
    refunded_transfer(db)
    register(db)
    register(db, "green")
    (leased,) = claim_as(db, "blue")
    lapse_lease(db, leased["id"])
    claim_as(db, "green")

    assert record_one(db, refusal(leased, 401))["result"] == "stale"

    assert {runner(db, worker)["ended_at"] for worker in ("blue", "green")} == {None}


def test_a_clock_that_stepped_back_neither_hides_a_runner_nor_keeps_its_registration(db: Database) -> None:
    refunded_transfer(db)
    register(db)
    db.execute(
        "update marketplace.runners set registered_at = registered_at + interval '1 h',"
        " last_seen_at = last_seen_at + interval '1 h' where worker = 'blue'"
    )

    (leased,) = claim_as(db, "blue")

    seen = runner(db)
    assert seen["registered_at"] == seen["last_seen_at"] < value(db, "select now() + interval '1 min'")
    record_one(db, refusal(leased, 401))
    assert runner(db)["ended_at"] is not None


def test_a_key_that_is_good_again_is_tried_at_once_in_a_pause_by_verdict(db: Database) -> None:
    refunded_transfers(db, 2)
    register(db)
    first, _ = claim_as(db, "blue")
    record_one(db, refusal(first, 401))
    assert control(db)["probe_at"] > value(db, "select clock_timestamp() + interval '20 s'")

    again = register(db)

    assert control(db)["probe_at"] == again["registered_at"]
    assert len(claim_as(db, "blue")) == 1
    assert control(db)["probe_at"] - again["registered_at"] > timedelta(seconds=30)


def test_a_pause_by_a_person_is_none_of_a_runners_business(db: Database) -> None:
    refunded_transfer(db)
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    before = control(db)

    register(db)

    paused = {name: before[name] for name in before if name.startswith(("pause", "probe"))}
    assert paused["paused_by"] == "person"
    assert {name: control(db)[name] for name in paused} == paused
    assert claim_as(db, "blue") == []


def test_401s_claims_and_registrations_at_once_do_not_deadlock(connect: Connect) -> None:
    refunded_transfers(connect(), 20)
    sessions = [impatient(connect, deadlock_timeout="10ms") for _ in range(4)]

    def work(number: int) -> int:
        session, reported = sessions[number], 0
        for _ in range(25):
            call(session, "resume_stripe_calls", p_reason="the key is replaced")
            register(session, f"runner-{number % 2}")
            try:
                leased = claim_as(session, f"runner-{number % 2}")
            except psycopg.Error as error:
                assert error.sqlstate == "ST008"  # noqa: PT017 - the other session's 401 came in between
                continue
            reported += len(record(session, *[refusal(each, 401) for each in leased]))
        return reported

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(work, range(4))) > 20


def test_the_runners_seen_lately_and_those_that_may_not_claim_are_shown(db: Database) -> None:
    db.execute("delete from marketplace.runners")
    for worker in ("blue", "gone", "old", "refused"):
        register(db, worker)
    db.execute(
        """
        update marketplace.runners
        set
          last_seen_at = now() - case worker when 'blue' then interval '9 min' else interval '11 min' end,
          ended_at = case worker
            when 'refused' then now() - interval '11 min' when 'old' then now() - interval '2 days'
          end,
          ended_reason = case when worker in ('refused', 'old') then 'Stripe refused its key' end
        """
    )

    shown = rows(db, "select * from marketplace.read_runner_health()")

    assert [each["worker"] for each in shown] == ["blue", "refused"]


def test_the_claim_of_a_worker_that_is_being_registered_waits_and_is_good(connect: Connect) -> None:
    session, other = connect(), impatient(connect)
    refunded_transfer(session)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with session.transaction():
            register(session)
            waiting = pool.submit(claim_as, other, "blue")
            wait_until_blocked(connect(), other)
        assert len(waiting.result()) == 1
