"""db/functions/next_due_in.sql: how long a runner may sleep."""

from datetime import timedelta

import psycopg
import pytest

from tests.support.databases import Database, row, value
from tests.support.raw_transfers import update_transfer
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claim_sends,
    claimed_call,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfers,
    refusal,
    request_parts,
    sent,
    success,
)

pytest_plugins = ("tests.support.rolled_back",)

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def next_due_in(db: Database) -> timedelta | None:
    found = value(db, "select marketplace.next_due_in()")
    assert found is None or isinstance(found, timedelta)
    return found


def due_in(db: Database, transfer_id: int, minutes: int) -> None:
    db.execute(
        "update marketplace.seller_transfers set next_retry_at = now() + %s * interval '1 min' where id = %s",
        [minutes, transfer_id],
    )


def nearly(expected: timedelta, found: timedelta | None) -> bool:
    """A little of it has passed since."""
    return found is not None and expected - timedelta(seconds=30) < found <= expected


def test_there_is_nothing_to_wait_for_while_nothing_is_open(db: Database) -> None:
    record_transfer(db, 1)
    record_one(db, success(claimed_call(db, 3)))

    assert next_due_in(db) is None


def test_each_kind_of_work_waits_for_its_own(db: Database) -> None:
    refused, leased = create_transfer(db, 1)["id"], create_transfer(db, 2)["id"]

    def until(kind: str | None) -> timedelta | None:
        found = row(db, "select marketplace.next_due_in(p_kind => %(kind)s) as due", kind=kind)["due"]
        assert found is None or isinstance(found, timedelta)
        return found

    assert [until(kind) for kind in ("transfers", None, "reversals")] == [NOW, NOW, None]
    update_transfer(db, refused, "status = 'failed', next_retry_at = now() + interval '30 s'")
    update_transfer(
        db,
        leased,
        "lease_token = gen_random_uuid(), leased_at = now(), lease_expires_at = now() + interval '20 s',"
        " leased_by = 'worker', lease_action = 'send'",
    )
    assert timedelta(seconds=15) < (until("transfers") or NOW) <= timedelta(seconds=20)
    refunded_transfers(db, 1)
    assert [until("reversals"), until(None)] == [NOW, NOW]


def test_a_due_row_is_due_now(db: Database) -> None:
    refunded_transfers(db, 1)

    assert next_due_in(db) == NOW


def test_the_soonest_row_counts(db: Database) -> None:
    soon, late = refunded_transfers(db, 2)
    due_in(db, late, 30)
    due_in(db, soon, 10)

    assert nearly(10 * MINUTE, next_due_in(db))


def test_a_parked_row_is_waited_for_by_nobody(db: Database) -> None:
    parked, other = refunded_transfers(db, 2)
    db.execute("update marketplace.seller_transfers set parked_reason = 'a person looks' where id = %s", [parked])
    due_in(db, other, 10)

    assert nearly(10 * MINUTE, next_due_in(db))
    record_one(db, success(claim_again(db, other)))
    assert next_due_in(db) is None


def test_leased_rows_are_waited_for_until_the_first_lease_runs_out(db: Database) -> None:
    refunded_transfers(db, 2)
    claim(db, limit=1, lease="20 min")
    claim(db, limit=1, lease="10 min")

    assert nearly(10 * MINUTE, next_due_in(db))


def test_a_lapsed_lease_is_due_now(db: Database) -> None:
    refunded_transfers(db, 1)
    (leased,) = claim(db)
    lapse_lease(db, leased["id"])

    assert next_due_in(db) == NOW


def two_parts(db: Database) -> tuple[int, int]:
    """Two parts of one transfer that are asked back; the second is due for longer."""
    record_transfer(db, 1)
    ids = [request_parts(db, {"key-1": 10}, f"re_{n}")[0]["id"] for n in (1, 2)]
    due_in(db, ids[1], -1)
    return ids[0], ids[1]


def test_a_lapsed_lease_waits_for_the_lease_of_another_part(db: Database) -> None:
    first, second = two_parts(db)
    due_in(db, first, -2)
    assert [each["id"] for each in claim(db)] == [first]
    lapse_lease(db, first)
    due_in(db, first, 0)
    (leased,) = claim(db, lease="10 min")
    assert leased["id"] == second

    assert claim(db) == []
    assert nearly(10 * MINUTE, next_due_in(db))
    lapse_lease(db, second)
    assert next_due_in(db) == NOW
    assert len(claim(db)) == 1


def test_a_part_waits_for_what_is_sent_beside_it(db: Database) -> None:
    create_transfer(db, 1)
    request_parts(db, {"key-1": 400})
    (first,) = claim_sends(db)
    record_one(db, sent(first, "tr_1"))
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="the refund failed")
    claim_sends(db, lease="10 min")
    request_parts(db, {"key-1": 10}, "re_2")

    assert claim(db) == []
    assert nearly(10 * MINUTE, value(db, "select marketplace.next_due_in('reversals')"))


@pytest.mark.parametrize(("waits_minutes", "expected"), [(5, 5 * MINUTE), (15, 10 * MINUTE)])
def test_of_a_lease_and_a_waiting_row_the_sooner_counts(db: Database, waits_minutes: int, expected: timedelta) -> None:
    leased, waiting = refunded_transfers(db, 2)
    due_in(db, waiting, waits_minutes)
    assert [each["id"] for each in claim(db, lease="10 min")] == [leased]

    assert nearly(expected, next_due_in(db))


def test_a_pause_by_a_person_has_no_end_to_wait_for(db: Database) -> None:
    refunded_transfers(db, 1)
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    assert next_due_in(db) is None

    call(db, "resume_stripe_calls", p_reason="over")
    assert next_due_in(db) == NOW


def test_in_a_pause_by_verdict_the_trial_call_is_waited_for(db: Database) -> None:
    refunded_transfers(db, 1)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 401, message="Invalid API Key provided: sk_test_***"))
    db.execute("update marketplace.stripe_control set probe_at = clock_timestamp() + interval '3 min'")

    assert nearly(3 * MINUTE, next_due_in(db))
    db.execute("update marketplace.stripe_control set probe_at = clock_timestamp()")
    assert next_due_in(db) == NOW


def test_in_a_pause_by_verdict_a_row_that_is_due_after_the_trial_call_counts(db: Database) -> None:
    (only,) = refunded_transfers(db, 1)
    (leased,) = claim(db)
    record_one(db, refusal(leased, 401, message="Invalid API Key provided: sk_test_***"))
    due_in(db, only, 20)

    assert nearly(20 * MINUTE, next_due_in(db))


def test_the_kind_may_be_named(db: Database) -> None:
    refunded_transfers(db, 1)

    assert value(db, "select marketplace.next_due_in('reversals')") == NOW
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        value(db, "select marketplace.next_due_in('refunds')")
    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("22023", "p_kind")


def test_what_it_promises_a_claim_keeps(db: Database) -> None:
    """Zero means a claim returns a row; more, or nothing, means it returns none."""
    promised = []
    refunded_transfers(db, 3)
    for _ in range(5):
        zero = next_due_in(db) == NOW
        promised.append(zero)
        assert bool(claim(db, limit=1)) == zero

    assert promised == [True, True, True, False, False]
