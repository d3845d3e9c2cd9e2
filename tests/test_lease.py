"""db/functions/lease.sql: the rows of a claim, and what became of those that a worker lost."""

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database
from tests.support.transfers import (
    attempts,
    claim,
    claim_again,
    claimed_call,
    found_reversal,
    lapse_lease,
    look_up_report,
    make_due,
    nothing_found,
    record_one,
    record_transfer,
    refunded_transfer,
    refunded_transfers,
    request_reversal,
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


def ids(calls: list[DictRow]) -> list[int]:
    return [leased["id"] for leased in calls]


def test_rows_are_claimed_in_due_order_and_no_more_than_asked_for(db: Database) -> None:
    oldest_last = refunded_transfers(db, 5)
    for minutes, transfer_id in enumerate(oldest_last, start=1):
        db.execute(
            "update marketplace.seller_transfers set next_retry_at = now() - %s * interval '1 min' where id = %s",
            [minutes, transfer_id],
        )

    due_order = oldest_last[::-1]
    assert ids(claim(db, limit=2)) == due_order[:2]
    # Nor does the order depend on the index that happens to be in it.
    db.execute("set local enable_indexscan = off")
    db.execute("discard plans")
    assert ids(claim(db, limit=2)) == due_order[2:4]
    assert ids(claim(db, limit=10)) == due_order[4:]
    assert claim(db) == []


def test_claim_skips_rows_that_are_not_due_parked_or_leased(db: Database) -> None:
    due, waiting, parked, leased = refunded_transfers(db, 4)
    db.execute(
        "update marketplace.seller_transfers set next_retry_at = clock_timestamp() + interval '1 h' where id = any(%s)",
        [[due, waiting, parked]],
    )
    assert ids(claim(db)) == [leased]
    db.execute("update marketplace.seller_transfers set parked_reason = 'a person looks' where id = %s", [parked])
    make_due(db, parked)
    make_due(db, due)

    assert ids(claim(db, worker="worker-2")) == [due]
    assert transfer(db, leased)["leased_by"] == "worker-1"


def test_a_lapsed_lease_is_taken_over_and_its_call_counts_as_unknown(db: Database) -> None:
    lost = claimed_call(db)
    lapse_lease(db, lost["id"])
    before = transfer(db, lost["id"])

    (taken,) = claim(db, worker="worker-2")

    assert taken["id"] == lost["id"]
    assert taken["lease_token"] != lost["lease_token"]
    assert taken["action"] == "look_up_reversals"
    held = transfer(db, lost["id"])
    # It may have been sent at any time up to the end of the lease.
    assert (held["leased_by"], held["call_unknown"], held["call_last_sent_at"]) == (
        "worker-2",
        True,
        before["lease_expires_at"],
    )
    assert (held["streak"], held["streak_verdict"], held["retry_count"]) == (1, "unknown", 0)
    (attempt,) = attempts(db, lost["id"])
    assert {name: attempt[name] for name in attempt if name not in ("id", "finished_at")} == {
        "transfer_id": lost["id"],
        "kind": "lost_lease",
        "action": "reverse",
        "idempotency_key": lost["idempotency_key"],
        "lease_token": lost["lease_token"],
        "worker": "worker-1",
        "started_at": before["leased_at"],
        "duration_ms": None,
        "http_status": None,
        "error_type": None,
        "error_code": None,
        "error_message": None,
        "stripe_request_id": None,
        "stripe_object_id": None,
        "found_count": None,
        "replayed": False,
        "verdict": "unknown",
        "disposition": "applied",
        "facts_sha256": None,
    }


def test_a_lease_token_never_comes_back_even_if_every_sequence_does(db: Database) -> None:
    """As after a failover that loses a claim: its worker's report must not fit the next one."""
    refunded_transfers(db, 2)
    tokens = set()
    for _ in range(2):
        db.execute(
            "select setval(c.oid, 1000) from pg_class as c"
            " where c.relkind = 'S' and c.relnamespace = 'marketplace'::regnamespace"
        )
        (leased,) = claim(db, limit=1)
        tokens.add(leased["lease_token"])

    assert len(tokens) == 2


def test_leases_lost_in_a_row_are_counted_in_a_row(db: Database) -> None:
    lost = claimed_call(db)
    for _ in range(3):
        lapse_lease(db, lost["id"])
        claim(db)

    held = transfer(db, lost["id"])
    assert (held["streak"], held["streak_verdict"]) == (3, "unknown")
    assert held["streak_since"] <= attempts(db, lost["id"])[0]["finished_at"]


def test_a_lapsed_look_up_leaves_what_is_known_of_the_call_as_it_was(db: Database) -> None:
    sent = claimed_call(db)
    record_one(db, timeout(sent))
    record_one(db, nothing_found(claim_again(db, sent["id"])))
    db.execute("update marketplace.seller_transfers set call_minted_at = call_minted_at - interval '20 h'")
    looked = claim_again(db, sent["id"])
    lapse_lease(db, sent["id"])
    before = transfer(db, sent["id"])

    (again,) = claim(db, worker="worker-2")

    assert (looked["action"], again["action"]) == ("look_up_reversals", "look_up_reversals")
    after = transfer(db, sent["id"])
    of_the_call = [name for name in after if name.startswith("call")]
    assert [after[name] for name in of_the_call] == [before[name] for name in of_the_call]
    lost = attempts(db, sent["id"])[-1]
    assert (lost["kind"], lost["action"], lost["verdict"]) == ("lost_lease", "look_up_reversals", "unclear")


def test_a_row_without_a_stripe_id_ends_at_the_claim_and_no_call_is_made(db: Database) -> None:
    record_transfer(db, 1, p_stripe_transfer_id=None)
    (without,) = request_reversal(db, 1)
    other = refunded_transfer(db, 2)

    assert ids(claim(db)) == [other["id"]]

    ended = transfer(db, without["id"])
    assert (ended["status"], ended["failure_code"], ended["next_retry_at"], ended["lease_token"]) == (
        "permanently_failed",
        "missing_transfer_id",
        None,
        None,
    )
    assert attempts(db, without["id"]) == []
    assert status_log(db, without["id"])[-1]["to_status"] == "permanently_failed"


@pytest.mark.parametrize("age", ["0 s", "19 hours 59 min", "20 hours 1 min", "44 days"])
def test_a_reversal_that_stripe_holds_is_never_asked_for_again_however_young_or_old_its_key(
    db: Database, age: str
) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_1", status="pending"))
    db.execute("update marketplace.seller_transfers set call_minted_at = now() - %s::interval", [age])

    for _ in range(3):
        looked = claim_again(db, leased["id"])
        assert (looked["action"], looked["stripe_reversal_id"]) == ("look_up_reversals", "trr_1")
        record_one(db, look_up_report(looked, found_reversal(leased, "trr_1", status="pending")))

    held = transfer(db, leased["id"])
    assert (held["status"], held["parked_reason"], held["call_generation"]) == ("reversal_pending", None, 1)
    assert [each["action"] for each in attempts(db, leased["id"])].count("reverse") == 1


def test_a_row_that_costs_every_worker_its_life_waits_longer_each_time_and_lets_others_go_first(db: Database) -> None:
    leased = claimed_call(db)
    delays = []
    for _ in range(5):
        db.execute(
            "update marketplace.seller_transfers"
            " set leased_at = clock_timestamp() - interval '61 s',"
            " lease_expires_at = clock_timestamp() - interval '1 s' where lease_token is not null"
        )
        taken = claim(db)
        held = transfer(db, leased["id"])
        if taken:
            continue
        assert held["lease_token"] is None
        delays.append(held["next_retry_at"])
        break
    # 5, 10, 20 and 40 s have passed when a lease of a minute has; 80 s have not.
    assert held["streak"] == 5
    assert len(delays) == 1
    assert [attempt["kind"] for attempt in attempts(db, leased["id"])] == ["lost_lease"] * 5


def test_a_held_row_that_a_person_unparks_is_looked_up_and_does_not_stop_the_claims_of_others(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_1", status="pending"))
    # As the release before left such a row when its key was 20 hours old: parked, with the call before it lost.
    claim_again(db, leased["id"])
    lapse_lease(db, leased["id"])
    db.execute(
        "update marketplace.seller_transfers set lease_action = 'reverse', call_minted_at = now() - interval '21 h',"
        " parked_reason = 'accepted: Stripe holds trr_1, and the key is too old to ask again'"
    )
    assert claim(db) == []
    db.execute("update marketplace.seller_transfers set parked_reason = null where id = %s", [leased["id"]])
    make_due(db, leased["id"])
    other = refunded_transfer(db, 2)

    claimed = {each["id"]: each["action"] for each in claim(db)}

    assert claimed == {leased["id"]: "look_up_reversals", other["id"]: "reverse"}
