"""db/functions/outcomes.sql: what Stripe said is applied once, under the lease it was said for, and always kept."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, value
from tests.support.look_ups import pass_time
from tests.support.transfers import (
    attempts,
    call,
    claim,
    claim_again,
    claim_post,
    claimed_call,
    contents,
    found_reversal,
    lapse_lease,
    look_up_report,
    record,
    record_one,
    refunded_transfer,
    refunded_transfers,
    refusal,
    report,
    status_log,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def results(recorded: list[DictRow]) -> list[tuple[int, str]]:
    return [(each["id"], each["result"]) for each in recorded]


def test_results_come_in_the_order_of_the_report(db: Database) -> None:
    refunded_transfers(db, 3)
    first, second, third = claim(db)

    recorded = record(db, success(third), timeout(first), refusal(second))

    assert [(each["id"], each["result"], each["verdict"], each["status"]) for each in recorded] == [
        (third["id"], "applied", "succeeded", "reversed"),
        (first["id"], "applied", "unknown", "reversal_pending"),
        (second["id"], "applied", "transient", "reversal_pending"),
    ]
    assert [each["next_retry_at"] for each in recorded] == [
        transfer(db, each["id"])["next_retry_at"] for each in (third, first, second)
    ]


def test_nothing_reported_is_nothing_recorded(db: Database) -> None:
    before = contents(db)

    assert record(db) == []
    assert contents(db) == before


@pytest.mark.parametrize(
    "outcome",
    [success, timeout, refusal, lambda leased: report(leased, sent=False)],
    ids=["200", "none", "400", "not sent"],
)
def test_the_same_report_again_is_already_recorded_and_changes_nothing(db: Database, outcome: Any) -> None:
    leased = claimed_call(db)
    first = record_one(db, outcome(leased))
    before = contents(db)

    again = record_one(db, outcome(leased))

    assert again == {**first, "result": "already_recorded"}
    assert contents(db) == before


def test_the_same_report_twice_in_one_batch_is_recorded_once(db: Database) -> None:
    leased = claimed_call(db)

    recorded = record(db, success(leased), success(leased))

    assert [each["result"] for each in recorded] == ["applied", "already_recorded"]
    assert len(attempts(db, leased["id"])) == 1
    assert len(status_log(db, leased["id"])) == 3


def test_a_report_is_recognised_after_the_row_went_on(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    claim_again(db, leased["id"])
    before = contents(db)

    assert record_one(db, timeout(leased))["result"] == "already_recorded"
    assert contents(db) == before


def test_other_facts_for_a_lease_are_kept_once_and_only_hasten_the_look_up(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    before = transfer(db, leased["id"])
    assert claim(db) == []  # for five seconds

    for _ in range(2):
        late = record_one(db, success(leased))
        assert (late["verdict"], late["status"]) == ("succeeded", "reversal_pending")
    record_one(db, refusal(leased))

    after = transfer(db, leased["id"])
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"next_retry_at", "call_last_sent_at", "updated_at"}
    assert [each["action"] for each in claim(db)] == ["look_up_reversals"]
    assert [
        (attempt["kind"], attempt["disposition"], attempt["verdict"]) for attempt in attempts(db, leased["id"])
    ] == [
        ("call", "applied", "unknown"),
        ("second_report", "stale", "succeeded"),
    ]


def test_other_facts_in_one_batch_are_kept_and_change_nothing(db: Database) -> None:
    leased = claimed_call(db)

    recorded = record(db, timeout(leased), success(leased))

    assert [each["result"] for each in recorded] == ["applied", "stale"]
    assert transfer(db, leased["id"])["status"] == "reversal_pending"


def test_the_outcome_of_a_lost_lease_changes_nothing_and_is_kept(db: Database) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    (taken,) = claim(db, worker="worker-2")
    before = transfer(db, lost["id"])

    stale = record_one(db, success(lost))

    assert (stale["result"], stale["verdict"], stale["status"]) == ("stale", "succeeded", "reversal_pending")
    assert transfer(db, lost["id"]) == before
    loss, kept = attempts(db, lost["id"])
    assert (loss["kind"], kept["kind"], kept["disposition"], kept["verdict"]) == (
        "lost_lease",
        "call",
        "stale",
        "succeeded",
    )
    assert (kept["stripe_object_id"], kept["http_status"]) == ("trr_1", 200)
    # whose call it was is known from the loss
    assert (kept["worker"], kept["idempotency_key"], kept["started_at"]) == (
        "worker-1",
        lost["idempotency_key"],
        loss["started_at"],
    )
    applied = record_one(db, look_up_report(taken, found_reversal(lost)))
    assert (applied["result"], applied["verdict"], applied["status"]) == ("applied", "succeeded", "reversed")


def test_the_outcome_of_a_lost_lease_is_judged_by_what_was_asked_even_after_a_new_generation(db: Database) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    record_one(db, refusal(claim_post(db, lost["id"])))
    assert transfer(db, lost["id"])["call_generation"] == 2

    assert record_one(db, success(lost))["verdict"] == "succeeded"


def test_an_outcome_after_the_end_is_kept_as_late(db: Database) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    record_one(db, timeout(claim(db)[0]))
    pass_time(db, lost["id"], "2 h")
    record_one(db, refusal(claim(db)[0], 404, "resource_missing"))
    before = transfer(db, lost["id"])

    late = record_one(db, success(lost))

    assert (late["result"], late["status"]) == ("stale", "permanently_failed")
    assert transfer(db, lost["id"]) == before
    assert attempts(db, lost["id"])[-1]["disposition"] == "late"


def test_a_lapsed_lease_that_nobody_took_over_still_counts(db: Database) -> None:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])

    assert record_one(db, success(leased))["result"] == "applied"


def test_a_row_that_does_not_exist_is_stale_and_stops_nobody(db: Database) -> None:
    leased = claimed_call(db)
    strangers = [{**timeout(leased), "id": n} for n in (0, -1, 4711, 2**63 - 1)]

    recorded = record(db, *strangers, success(leased))

    assert results(recorded) == [*((each["id"], "stale") for each in strangers), (leased["id"], "applied")]
    assert {each["verdict"] for each in recorded[:4]} == {None}


def test_a_lease_of_another_row_opens_nothing_and_takes_nothing_away(db: Database) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)
    mixed_up = {**success(first), "lease_token": str(second["lease_token"])}

    assert record_one(db, mixed_up)["result"] == "stale"
    assert transfer(db, first["id"])["status"] == "reversal_pending"

    # the second row's own report is recorded as if nothing had happened
    assert record_one(db, success(second))["result"] == "applied"
    assert [attempt["disposition"] for attempt in attempts(db, second["id"])] == ["applied"]
    assert record_one(db, success(second))["result"] == "already_recorded"


def test_an_invented_lease_is_kept_as_stale(db: Database) -> None:
    leased = claimed_call(db)

    assert record_one(db, {**success(leased), "lease_token": str(uuid4())})["result"] == "stale"
    assert [(attempt["disposition"], attempt["idempotency_key"]) for attempt in attempts(db, leased["id"])] == [
        ("stale", None)
    ]


def test_a_reversal_that_is_another_rows_evidence_parks_the_row_and_refuses_nobody(db: Database) -> None:
    refunded_transfers(db, 3)
    first, second, third = claim(db)
    record_one(db, success(first, "trr_1"))

    recorded = record(db, success(second, "trr_1"), success(third, "trr_3"))

    assert [(each["verdict"], each["status"]) for each in recorded] == [
        ("mismatch", "reversal_pending"),
        ("succeeded", "reversed"),
    ]
    assert transfer(db, second["id"])["parked_reason"].startswith("mismatch")


def test_one_reversal_for_two_rows_in_one_batch_is_evidence_for_the_first(db: Database) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)

    recorded = record(db, success(first, "trr_1"), success(second, "trr_1"))

    assert [each["verdict"] for each in recorded] == ["succeeded", "mismatch"]


def test_the_callers_own_reason_is_put_back(db: Database) -> None:
    leased = claimed_call(db)
    with db.transaction():
        db.execute("set local marketplace.reason = 'ticket 42'")
        record_one(db, success(leased))
        assert value(db, "select current_setting('marketplace.reason')") == "ticket 42"


def test_a_whole_batch_is_recorded_or_nothing_of_it(db: Database) -> None:
    refunded_transfer(db)
    (leased,) = claim(db)
    before = contents(db)

    with pytest.raises(psycopg.Error) as refused, db.transaction():
        call(db, "record_reversal_outcomes", p_outcomes=Jsonb([success(leased), {"id": 1}]))

    assert refused.value.sqlstate == "22023"
    assert contents(db) == before
