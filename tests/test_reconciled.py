"""db/functions/reconciled.sql: what ends the waiting of a restored database, and look-ups first."""

import pytest

from tests.support.databases import Database, rows, value
from tests.support.failovers import control, pass_since_failover, promote, register_own
from tests.support.look_ups import seen
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claim_sends,
    claimed_call,
    create_transfer,
    record_one,
    refunded_transfer,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    register_own(rolled_back_db)
    return rolled_back_db


def reconciled(db: Database) -> None:
    db.execute("select marketplace._reconciled(clock_timestamp(), 'compared, nothing is different')")


def ends_look_up_first(db: Database, compared: str = "0 s") -> bool:
    """Whether a comparison that began so long ago ends it."""
    return bool(
        value(
            db,
            "select marketplace._end_look_up_first(clock_timestamp() - %(ago)s::interval)",
            ago=compared,
        )
    )


def looked_at(db: Database, transfer_id: int) -> None:
    """The runner has looked, and found nothing."""
    record_one(db, seen(claim_again(db, transfer_id)))


def test_a_person_says_that_a_copy_of_the_disk_came_back(db: Database) -> None:
    refunded_transfer(db)
    (told,) = call(db, "require_reconcile", p_reason="the snapshot of Sunday", p_lost_since="2025-11-15 03:00Z")
    assert told == control(db)
    assert told["lost_since"].isoformat().startswith("2025-11-15T03:00")
    assert claim(db) == []
    assert rows(db, "select change, reason from marketplace.stripe_control_log order by id desc limit 1") == [
        {"change": "reconcile needed by person", "reason": "the snapshot of Sunday"}
    ]


def test_once_reconciled_the_database_is_pinned_as_it_is_and_looks_first(db: Database) -> None:
    waiting = refunded_transfer(db)
    before = control(db)
    db.execute("update marketplace.stripe_control set system_identifier = '1', table_oid = 1")
    assert claim(db) == []
    pass_since_failover(db, "3 days")

    reconciled(db)

    after = control(db)
    pins = ("system_identifier", "wal_timeline", "database_oid", "table_oid")
    assert [after[pin] for pin in pins] == [before[pin] for pin in pins]
    assert (after["reconcile_needed_since"], after["reconcile_reason"]) == (None, None)
    assert after["reconciled_at"] == after["look_up_first_since"]
    assert claim(db) == []
    pass_since_failover(db, "2 min")
    (leased,) = claim(db)
    assert (leased["id"], leased["action"]) == (waiting["id"], "look_up_reversals")
    assert [found["problem"] for found in rows(db, "select * from marketplace.needs_attention")] == ["commits lost"]


def test_look_ups_first_end_with_a_comparison_that_was_begun_when_it_was_quiet(db: Database) -> None:
    promote(db, "30 s")
    claim(db)
    assert not ends_look_up_first(db)
    pass_since_failover(db, "1 h 10 min")
    assert not ends_look_up_first(db, "11 min")

    assert ends_look_up_first(db, "9 min")

    assert (control(db)["look_up_first_since"], control(db)["lost_since"]) == (None, None)
    create_transfer(db)
    assert claim_sends(db)[0]["action"] == "send"
    assert rows(db, "select * from marketplace.needs_attention") == []
    assert not ends_look_up_first(db)  # there is nothing to end


def test_what_nobody_has_looked_at_stays_in_doubt_by_itself(db: Database) -> None:
    looked = refunded_transfer(db, 1)["id"]
    promote(db)
    claim(db)
    pass_since_failover(db, "2 hours")
    looked_at(db, looked)
    unseen = refunded_transfer(db, 2)["id"]

    assert ends_look_up_first(db)

    actions = {leased["id"]: leased["action"] for leased in claim(db)}
    assert actions == {looked: "reverse", unseen: "look_up_reversals"}


def test_a_look_from_before_the_failover_is_none(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    looked_at(db, leased["id"])
    promote(db)
    claim(db)
    pass_since_failover(db, "2 hours")
    db.execute("update marketplace.seller_transfers set call_absent_at = call_absent_at - interval '3 hours'")
    assert ends_look_up_first(db)
    assert claim_again(db, leased["id"])["action"] == "look_up_reversals"


def test_look_ups_first_do_not_end_while_the_database_is_to_be_reconciled(db: Database) -> None:
    call(db, "require_reconcile", p_reason="a snapshot", p_lost_since="2025-11-15 03:00Z")
    pass_since_failover(db, "3 days")
    assert not ends_look_up_first(db)
    reconciled(db)
    pass_since_failover(db, "3 days")
    assert ends_look_up_first(db)
