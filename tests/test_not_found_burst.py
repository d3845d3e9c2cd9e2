"""db/functions/not_found_burst.sql: many transfers that Stripe does not know say more of the key than of the rows."""

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, row, rows, value
from tests.support.transfers import (
    Facts,
    call,
    claim,
    record,
    record_one,
    refunded_transfers,
    refusal,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def unknown_to_stripe(leased: DictRow) -> Facts:
    return refusal(leased, 404, "resource_missing", f"No such transfer: '{leased['stripe_transfer_id']}'")


def statuses(db: Database) -> list[str]:
    return [each["status"] for each in rows(db, "select status from marketplace.seller_transfers order by id")]


def control(db: Database) -> DictRow:
    return row(db, "select paused_by, probe_at, pause_reason from marketplace.stripe_control")


def test_four_rows_that_stripe_does_not_know_end_at_once(db: Database) -> None:
    refunded_transfers(db, 4)

    record(db, *map(unknown_to_stripe, claim(db)))

    assert statuses(db) == ["permanently_failed"] * 4
    assert control(db)["paused_by"] is None


def test_five_in_one_report_are_spared_and_calls_stop_until_a_person_resumes(db: Database) -> None:
    refunded_transfers(db, 6)
    leased = claim(db)

    recorded = record(db, *map(unknown_to_stripe, leased[:5]))

    assert [(each["verdict"], each["status"]) for each in recorded] == [("not_found", "reversal_pending")] * 5
    assert (control(db)["paused_by"], control(db)["probe_at"]) == ("verdict", None)
    assert "right account" in control(db)["pause_reason"]
    assert value(db, "select sum(retry_count) from marketplace.seller_transfers") == 0
    # Nothing but a person ends it: no trial call, and no success that was under way.
    record_one(db, success(leased[5]))
    assert control(db)["paused_by"] == "verdict"
    assert claim(db) == []
    assert value(db, "select marketplace.next_due_in()") is None

    call(db, "resume_stripe_calls", p_reason="it is the right key")

    again = claim(db)
    assert len(again) == 5
    record(db, *map(unknown_to_stripe, again))
    assert statuses(db) == ["permanently_failed"] * 5 + ["reversed"]
    assert control(db)["paused_by"] is None


def test_the_fifth_in_ten_minutes_is_spared_when_they_come_one_by_one(db: Database) -> None:
    refunded_transfers(db, 6)
    for leased in claim(db):
        record_one(db, unknown_to_stripe(leased))

    assert statuses(db) == ["permanently_failed"] * 4 + ["reversal_pending"] * 2
    assert control(db)["paused_by"] == "verdict"


def test_a_success_in_the_same_report_or_lately_shows_that_the_key_is_right(db: Database) -> None:
    refunded_transfers(db, 12)
    leased = claim(db, limit=20)

    record(db, *map(unknown_to_stripe, leased[:5]), success(leased[5]))
    record(db, *map(unknown_to_stripe, leased[6:]))

    assert statuses(db).count("permanently_failed") == 11
    assert control(db)["paused_by"] is None


def test_other_trouble_and_the_same_row_twice_make_no_burst(db: Database) -> None:
    refunded_transfers(db, 10)
    leased = claim(db)

    record(db, *map(unknown_to_stripe, leased[:4]), unknown_to_stripe(leased[0]), *map(timeout, leased[4:]))

    assert statuses(db)[:4] == ["permanently_failed"] * 4
    assert control(db)["paused_by"] is None


def test_a_pause_by_a_person_stays_a_persons(db: Database) -> None:
    refunded_transfers(db, 5)
    leased = claim(db)
    call(db, "pause_stripe_calls", p_reason="an incident")

    record(db, *map(unknown_to_stripe, leased))

    assert statuses(db) == ["reversal_pending"] * 5
    assert (control(db)["paused_by"], control(db)["pause_reason"]) == ("person", "an incident")


def test_a_spared_row_that_is_not_found_again_much_later_is_spared_again(db: Database) -> None:
    refunded_transfers(db, 5)
    record(db, *map(unknown_to_stripe, claim(db)))
    db.execute("alter table marketplace.transfer_attempts disable trigger _100_refuse_change")
    db.execute("update marketplace.transfer_attempts set finished_at = finished_at - interval '61 min'")
    call(db, "resume_stripe_calls", p_reason="another key")

    record(db, *map(unknown_to_stripe, claim(db)))

    assert statuses(db) == ["reversal_pending"] * 5
