"""db/functions/reconcile_resume.sql: what lets calls go on in a database that was restored, and what does not."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.failovers import control, pass_since_failover, promote, register_own
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.stripe_lists import (
    ANOTHER_DATABASE,
    begin,
    compared,
    finish,
    hand_over,
    listed_reversal,
    listed_transfer,
    reversal_mark,
    seconds_ago,
    sent_mark,
)
from tests.support.transfers import (
    Facts,
    call,
    claim,
    claim_sends,
    claimed_send,
    create_transfer,
    record_one,
    record_transfer,
    refunded_transfer,
    sent,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    register_own(rolled_back_db)
    return rolled_back_db


def restore(db: Database, ago: str = "3 hours") -> None:
    """As if this had come back as a copy of another database, and somebody had noticed so long ago."""
    db.execute("update marketplace.stripe_control set table_oid = 1")
    assert claim(db) == []
    db.execute(
        """
        update marketplace.stripe_control
        set reconcile_needed_since = clock_timestamp() - %(ago)s::interval,
          look_up_first_since = clock_timestamp() - %(ago)s::interval
        """,
        {"ago": ago},
    )


def last_run(db: Database) -> int:
    return int(value(db, "select max(id) from marketplace.reconcile_runs"))


def resume_by(db: Database, run: int) -> DictRow:
    call(db, "resume_after_reconcile", p_run_id=run, p_reason="restored on Sunday")
    return control(db)


def refused(db: Database, run: int) -> str:
    """Why it may not go on by this run; nothing changes."""
    before = control(db)
    with pytest.raises(psycopg.Error) as raised, db.transaction():
        resume_by(db, run)
    diag = raised.value.diag
    assert (diag.sqlstate, diag.column_name) == ("ST012", "p_run_id")
    assert diag.message_hint
    assert control(db) == before
    return diag.message_primary or ""


def test_a_whole_comparison_lets_calls_go_on_each_after_a_look(db: Database) -> None:
    waiting = refunded_transfer(db)["id"]
    restore(db)
    assert compared(db, listed_transfer(1)) == []

    after = resume_by(db, last_run(db))

    assert (after["reconcile_needed_since"], after["reconciled_at"]) == (None, after["look_up_first_since"])
    assert claim(db) == []
    pass_since_failover(db, "3 min")
    (leased,) = claim(db)
    assert (leased["id"], leased["action"]) == (waiting, "look_up_reversals")
    reasons = rows(db, "select reason from marketplace.stripe_control_log where change = 'reconciled'")
    assert [each["reason"].split(";")[0] for each in reasons] == ["restored on Sunday"]


def test_what_is_asked_again_late_is_looked_for_from_before_what_was_lost(db: Database) -> None:
    restore(db)
    long_ago = seconds_ago(40 * 86400)
    found = compared(db, listed_transfer(1, metadata=sent_mark(db), created=long_ago))
    assert [(each["kind"], each["is_urgent"]) for each in found] == [("lost transfer", False)]

    resume_by(db, last_run(db))
    pass_since_failover(db, "3 min")
    create_transfer(db)

    (leased,) = claim_sends(db)
    assert leased["action"] == "look_up_transfer"
    assert leased["created_after"].timestamp() <= long_ago - 86400


def test_who_begins_another_run_waits_until_this_one_is_judged(connect: Connect) -> None:
    """What was listed tells how far back to look; another run clears it."""
    first, second = impatient(connect), impatient(connect)
    register_own(first)
    restore(first)
    long_ago = seconds_ago(40 * 86400)
    compared(first, listed_transfer(1, metadata=sent_mark(first), created=long_ago))
    with ThreadPoolExecutor(max_workers=1) as pool:
        with first.transaction():
            resume_by(first, last_run(first))
            beginning = pool.submit(begin, second)
            wait_until_blocked(connect(), second)
        beginning.result(20)
    assert control(second)["lost_since"].timestamp() <= long_ago


def test_nothing_that_was_found_shortens_how_far_back_is_looked(db: Database) -> None:
    restore(db)
    db.execute("update marketplace.stripe_control set lost_since = '2026-01-01 00:00Z'")
    compared(db, listed_transfer(1, metadata=sent_mark(db)))
    assert resume_by(db, last_run(db))["lost_since"].isoformat() == "2026-01-01T00:00:00+00:00"


def test_a_run_that_is_not_whole_or_not_of_now_resumes_nothing(db: Database) -> None:
    early = begin(db)
    finish(db, early)
    restore(db, "1 min")
    db.execute("update marketplace.stripe_control set reconcile_needed_since = clock_timestamp()")
    assert "begun before the database became another one" in refused(db, early)

    restore(db)
    since = value(db, "select clock_timestamp() - interval '9 years'")
    part = begin(db, p_created_since=since)
    finish(db, part)
    assert "compared only what was made since" in refused(db, part)

    under_way = begin(db)
    assert "it has not ended" in refused(db, under_way)
    call(db, "finish_reconcile", p_run_id=under_way, p_trouble="Stripe gives no answer")
    assert "ended early: Stripe gives no answer" in refused(db, under_way)

    whole = begin(db)
    finish(db, whole)
    db.execute("update marketplace.reconcile_runs set finished_at = finished_at - interval '61 min'")
    assert "more than an hour old" in refused(db, whole)
    db.execute("update marketplace.reconcile_runs set finished_at = finished_at + interval '61 min'")
    call(db, "finish_reconcile", p_run_id=begin(db), p_trouble="Stripe gives no answer")
    assert "another one was begun since" in refused(db, whole)


def test_a_key_that_does_not_say_whose_it_is_proves_it_by_what_it_lists(db: Database) -> None:
    restore(db)
    run = begin(db, p_stripe_account=None)
    finish(db, run)
    assert "may not say whose it is" in refused(db, run)

    record_transfer(db)
    run = begin(db, p_stripe_account=None)
    hand_over(db, run, listed_transfer(1))
    finish(db, run)
    assert resume_by(db, run)["reconcile_needed_since"] is None


def test_another_copy_at_work_forbids_calls_until_it_has_been_still_for_an_hour(db: Database) -> None:
    restore(db)
    just_now = listed_transfer(1, metadata=sent_mark(db), created=seconds_ago(600))
    found = compared(db, just_now)
    assert [(each["kind"], each["forbids_calls"]) for each in found] == [
        ("another copy", True),
        ("lost transfer", False),
    ]
    assert "another copy" in refused(db, last_run(db))

    compared(db, {**just_now, "created": seconds_ago(3660)})
    assert resume_by(db, last_run(db))["reconcile_needed_since"] is None


def test_what_was_under_way_when_the_database_was_lost_is_no_other_copys(db: Database) -> None:
    restore(db, "10 min")
    just_then = listed_transfer(1, metadata=sent_mark(db), created=seconds_ago(9 * 60))
    assert [each["kind"] for each in compared(db, just_then)] == ["lost transfer"]


def test_what_another_database_does_forbids_calls(db: Database) -> None:
    create_transfer(db)
    restore(db)
    compared(db, listed_transfer(1, metadata=sent_mark(db, database=ANOTHER_DATABASE)))
    assert "another database (1 of these)" in refused(db, last_run(db))


def test_a_list_of_another_account_forbids_calls(db: Database) -> None:
    record_transfer(db)
    restore(db)
    compared(db)
    assert "another account" in refused(db, last_run(db))


def test_in_a_database_that_is_the_one_it_was_there_is_nothing_to_resume(db: Database) -> None:
    compared(db)
    assert "calls go on as usual" in refused(db, last_run(db))


def test_looks_first_end_when_all_that_was_lost_is_known(db: Database) -> None:
    paid = claimed_send(db, 1)
    record_one(db, sent(paid))
    promote(db)
    claim(db)
    mark = sent_mark(db)
    compared(db, listed_transfer(1, metadata=mark))
    assert "may still be under way" in refused(db, last_run(db))
    pass_since_failover(db, "2 hours")

    lost: list[tuple[list[Facts], str]] = [
        ([listed_transfer(1, metadata=mark), listed_transfer(2, metadata=sent_mark(db, 2))], "lost transfer"),
        (
            [
                listed_transfer(1, metadata=mark, amount_reversed=9),
                listed_reversal(1, amount=9, metadata=reversal_mark(db)),
            ],
            "lost reversal",
        ),
        ([listed_transfer(1, metadata=mark, amount_reversed=9)], "unclear"),
    ]
    for objects, kind in lost:
        assert [each["kind"] for each in compared(db, *objects)] == [kind]
        assert kind in refused(db, last_run(db))
    compared(db, listed_transfer(1, metadata=mark))

    after = resume_by(db, last_run(db))

    assert (after["look_up_first_since"], after["lost_since"]) == (None, None)
    create_transfer(db, 3)
    assert [each["action"] for each in claim_sends(db)] == ["send"]


def test_a_database_that_nobody_had_asked_is_noticed_when_it_is_compared(db: Database) -> None:
    db.execute("update marketplace.stripe_control set table_oid = 1")
    run = begin(db)
    assert control(db)["reconcile_needed_since"] is not None
    finish(db, run)
    assert resume_by(db, run)["reconcile_needed_since"] is None


def test_what_a_run_found_hours_ago_is_looked_up_and_not_believed(db: Database) -> None:
    record_transfer(db)
    compared(db, listed_transfer(1, amount_reversed=400), listed_reversal(1, amount=400))
    (said,) = call(db, "look_up_differences", p_run_id=last_run(db), p_reason="in the dashboard")
    assert (said["stripe_transfer_id"], said["result"].split(":")[0]) == ("tr_1", "acted")
    (again,) = call(db, "look_up_differences", p_run_id=last_run(db), p_reason="in the dashboard")
    assert again["result"].startswith("not yet: ")


def test_what_was_lost_of_a_transfer_is_not_looked_up_as_somebody_elses(db: Database) -> None:
    record_transfer(db)
    compared(
        db,
        listed_transfer(1, amount_reversed=700),
        listed_reversal(1, amount=400),
        listed_reversal(1, "trr_2", amount=300, metadata=reversal_mark(db)),
    )
    (said,) = call(db, "look_up_differences", p_run_id=last_run(db), p_reason="in the dashboard")
    assert said["result"] == "left: ask again first for what was lost of it"
    assert row(db, "select status from marketplace.seller_transfers") == {"status": "completed"}
