"""db/functions/withdraw.sql: a refund failed after all, a dispute was won; the seller has the money in the end."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows, value
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.transfers import (
    at_commit,
    call,
    claim,
    claim_again,
    claim_send_again,
    claimed_call,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_lines,
    request_parts,
    request_reversal,
    status_log,
    success,
    timeout,
    transfer,
)
from tests.support.withdrawals import born_of, follow_up, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def test_what_was_reversed_is_paid_again_by_a_transfer_of_its_own(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased))

    reversed_row, compensation = withdraw(db)

    at_commit(db)
    assert (reversed_row["id"], reversed_row["status"]) == (leased["id"], "reversed")
    paid_again = {name: compensation[name] for name in ("status", "amount", "original_amount", "made_for")}
    assert paid_again == {"status": "pending", "amount": 1000, "original_amount": 1000, "made_for": "re_1:1"}
    same = ("order_id", "seller_id", "destination_account", "currency")
    assert [compensation[name] for name in same] == [reversed_row[name] for name in same]
    nothing = ("transfer_key", "root_id", "source_charge", "stripe_transfer_id", "reversal_request_id")
    assert [compensation[name] for name in nothing] == [None] * len(nothing)
    assert compensation["compensates"] == leased["id"]
    assert compensation["next_retry_at"] <= value(db, "select clock_timestamp()")
    assert "the refund failed" in status_log(db, leased["id"])[-1]["reason"]
    assert "the refund failed" in status_log(db, compensation["id"])[0]["reason"]


def test_what_is_not_reversed_yet_is_not_reversed_any_more(db: Database) -> None:
    taken = refunded_transfer(db)

    given_up, successor = withdraw(db)

    at_commit(db)
    assert (given_up["status"], given_up["failure_code"]) == ("permanently_failed", "request_withdrawn")
    assert "the refund failed" in given_up["failure_message"]
    assert (successor["successor_of"], successor["root_id"]) == (taken["id"], taken["id"])
    assert (successor["status"], successor["amount"], successor["made_for"]) == ("completed", 1000, None)
    kept = ("stripe_transfer_id", "completed_at", "source_charge", "destination_account")
    assert [successor[name] for name in kept] == [taken[name] for name in kept]
    assert claim(db) == []


def test_what_was_never_paid_because_of_it_is_paid(db: Database) -> None:
    created = create_transfer(db, p_source_charge="ch_1")
    request_reversal(db)

    given_up, successor = withdraw(db)

    at_commit(db)
    assert given_up["failure_code"] == "refunded_before_transfer"
    assert (successor["status"], successor["successor_of"]) == ("pending", created["id"])
    # The same money, never sent: it comes from its charge still, under the key it would have had.
    assert (successor["source_charge"], successor["made_for"]) == ("ch_1", None)
    looked = claim_send_again(db, successor["id"])
    assert (looked["action"], looked["idempotency_key"].endswith(":key-1:1")) == ("look_up_transfer", True)


def given_up_for_good(db: Database) -> None:
    leased = claimed_call(db)
    assert record_one(db, refusal(leased, 404, "resource_missing"))["status"] == "permanently_failed"


def without_an_id(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    request_reversal(db)
    assert claim(db) == []


def refused_and_waiting(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, code="balance_insufficient"))


@pytest.mark.parametrize("before", [given_up_for_good, without_an_id, refused_and_waiting])
def test_what_did_not_come_back_counts_as_paid_again(db: Database, before: Any) -> None:
    before(db)

    ended, successor = withdraw(db)

    at_commit(db)
    assert (ended["status"], successor["status"], successor["amount"]) == ("permanently_failed", "completed", 1000)
    assert successor["stripe_transfer_id"] == ended["stripe_transfer_id"]


def unknown(db: Database) -> DictRow:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    return leased


def leased_to_somebody(db: Database) -> DictRow:
    return claimed_call(db)


def lapsed(db: Database) -> DictRow:
    leased = claimed_call(db)
    lapse_lease(db, leased["id"])
    return leased


def accepted(db: Database) -> DictRow:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    return leased


@pytest.mark.parametrize("before", [unknown, leased_to_somebody, lapsed, accepted])
def test_what_may_have_been_made_is_only_looked_for_from_then_on(db: Database, before: Any) -> None:
    leased = before(db)

    (open_row,) = withdraw(db)

    assert open_row["status"] == "reversal_pending"
    if before is leased_to_somebody:
        record_one(db, timeout(leased))
        follow_up(db, leased["id"])
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    # Not yet there is no proof: what is under way may arrive, and nothing is sent meanwhile.
    listed = [ours(db, looked, status="pending")] if before is accepted else []
    record_one(db, seen(looked, *listed))
    follow_up(db, leased["id"])
    assert transfer(db, leased["id"])["status"] == "reversal_pending"
    looked = claim_again(db, leased["id"])
    assert looked["action"] == "look_up_reversals"
    # Made after all: it is paid again.
    record_one(db, seen(looked, ours(db, looked)))
    follow_up(db, leased["id"])
    at_commit(db)
    assert story(db) == [(1000, "reversed", None), (1000, "pending", "compensates 1")]
    assert withdraw(db) == withdraw(db)


def test_an_absence_that_is_no_proof_yet_is_looked_at_again_when_it_is(db: Database) -> None:
    leased = unknown(db)
    withdraw(db)
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked))
    follow_up(db, leased["id"])

    waiting = transfer(db, leased["id"])
    assert (waiting["status"], waiting["call_unknown"]) == ("reversal_pending", True)
    quiet = value(db, "select quiet from marketplace.retry_policy where verdict = 'unknown'")
    assert waiting["next_retry_at"] == waiting["call_last_sent_at"] + quiet
    pass_time(db, leased["id"], "2 h")
    record_one(db, seen(claim_again(db, leased["id"])))
    follow_up(db, leased["id"])
    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_a_call_that_is_refused_for_good_after_the_withdrawal_ends_it(db: Database) -> None:
    leased = claimed_call(db)
    withdraw(db)

    record_one(db, refusal(leased, code="balance_insufficient"))
    follow_up(db, leased["id"])

    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_a_reversal_that_stripe_held_and_could_not_make_is_given_up(db: Database) -> None:
    leased = accepted(db)
    withdraw(db)
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked, ours(db, looked, status="failed")))
    follow_up(db, leased["id"])

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]


def test_after_a_failover_nothing_is_given_up_unseen(db: Database) -> None:
    taken = refunded_transfer(db)
    call(db, "look_up_first", p_reason="restored")
    db.execute("update marketplace.stripe_control set look_up_first_since = clock_timestamp() - interval '10 min'")

    withdraw(db)

    assert story(db) == [(1000, "reversal_pending", None)]
    looked = claim_again(db, taken["id"])
    record_one(db, seen(looked))
    follow_up(db, taken["id"])
    assert story(db) == [(1000, "reversal_pending", None)]
    db.execute("update marketplace.stripe_control set look_up_first_since = clock_timestamp() - interval '2 h'")
    record_one(db, seen(claim_again(db, taken["id"])))
    follow_up(db, taken["id"])
    assert story(db)[0] == (1000, "permanently_failed", None)


def test_of_a_row_in_doubt_the_part_that_was_reversed_elsewhere_is_given_back(db: Database) -> None:
    leased = unknown(db)
    withdraw(db)
    pass_time(db, leased["id"], "2 h")
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked, foreign(looked, "trr_f", 300)))
    follow_up(db, leased["id"])

    at_commit(db)
    assert story(db) == [
        (700, "permanently_failed", None),
        (300, "reversed", None),
        (300, "pending", "compensates 2"),
        (700, "completed", "succeeds 1"),
    ]


def test_a_row_that_a_person_must_look_at_stays_where_it_is(db: Database) -> None:
    taken = refunded_transfer(db)
    db.execute("update marketplace.seller_transfers set parked_reason = 'moved_twice: two of them'")

    withdraw(db)

    assert transfer(db, taken["id"])["status"] == "reversal_pending"


def test_a_withdrawal_that_comes_first_is_remembered(db: Database) -> None:
    record_transfer(db)

    assert withdraw(db) == []
    assert request_reversal(db) == []

    at_commit(db)
    assert story(db) == [(1000, "completed", None)]
    request = rows(db, "select * from marketplace.reversal_requests")[0]
    assert (request["order_id"], request["reason"], request["is_whole"]) == ("order-1", "refund", True)
    assert (request["withdrawn_reason"], request["withdrawn_by"]) == ("the refund failed", "postgres")
    assert request_reversal(db) == []
    record_transfer(db, 2, p_order_id="order-1")
    assert [each[1] for each in story(db)] == ["completed", "completed"]
    assert withdraw(db) == []


def test_a_request_for_parts_that_was_withdrawn_first_is_known_by_its_values(db: Database) -> None:
    record_transfer(db)
    withdraw(db)

    assert request_parts(db, {"key-1": 400}) == []

    assert request_lines(db) == [("key-1", 400, 0, 400)]
    assert request_parts(db, {"key-1": 400}) == []
    for wrong in ({"p_amount": 400}, {}):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            request_reversal(db, **wrong)
        assert refused.value.sqlstate == "ST003"
    assert story(db) == [(1000, "completed", None)]


@pytest.mark.parametrize(
    ("changes", "sqlstate"),
    [
        ({"p_order_id": "order-2"}, "ST004"),
        ({"p_allocation": Jsonb([{"transfer_key": "key-of-nobody", "amount": 1}])}, "22023"),
    ],
    ids=["order", "key"],
)
def test_a_request_that_cannot_be_meant_is_refused_though_it_was_withdrawn(
    db: Database, changes: dict[str, Any], sqlstate: str
) -> None:
    record_transfer(db)
    withdraw(db)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        request_reversal(db, **changes)
    assert (refused.value.sqlstate, bool(refused.value.diag.message_hint)) == (sqlstate, True)
    assert value(db, "select order_id is null from marketplace.reversal_requests")


def test_twice_is_once(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    first = withdraw(db)

    assert withdraw(db, p_reason="said again") == first
    assert request_reversal(db) == [first[0]]

    assert value(db, "select withdrawn_reason from marketplace.reversal_requests") == "the refund failed"


def test_a_transfer_recorded_after_the_withdrawal_is_not_taken(db: Database) -> None:
    refunded_transfer(db)
    withdraw(db)

    assert record_transfer(db, 2, p_order_id="order-1")["status"] == "completed"
    assert create_transfer(db, 3, p_order_id="order-1")["status"] == "pending"


def test_a_newborn_goes_to_the_request_that_still_stands(db: Database) -> None:
    refunded_transfer(db)
    request_reversal(db, p_reversal_request_id="dp_1", p_reason="dispute")
    withdraw(db)

    assert record_transfer(db, 2, p_order_id="order-1")["reversal_request_id"] == "dp_1"


def test_each_row_of_several_sellers_is_settled_by_its_own_state(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2, p_order_id="order-1")
    create_transfer(db, 3, p_order_id="order-1")
    request_reversal(db)
    record_one(db, success(claim(db, limit=1)[0]))

    made = withdraw(db)

    at_commit(db)
    assert story(db) == [
        (1000, "reversed", None),
        (1000, "permanently_failed", None),
        (1000, "permanently_failed", None),
        (1000, "pending", "compensates 1"),
        (1000, "completed", "succeeds 2"),
        (1000, "pending", "succeeds 3"),
    ]
    assert [each["id"] for each in made] == sorted(each["id"] for each in made)
    assert len(made) == 6


def test_of_a_slice_only_the_slice_is_given_back(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    request_parts(db, {"key-1": 250}, "re_2")
    looked = claim_again(db, part["id"])
    record_one(db, seen(looked))
    record_one(db, success(claim_again(db, part["id"])))

    withdraw(db)

    at_commit(db)
    assert story(db) == [
        (350, "completed", None),
        (400, "reversed", None),
        (250, "reversal_pending", None),
        (400, "pending", "compensates 2"),
    ]
    withdraw(db, request="re_2")
    at_commit(db)
    assert story(db)[4:] == [(250, "completed", "succeeds 3")]
    assert story(db)[2] == (250, "permanently_failed", None)


def test_a_successor_is_taken_by_a_refund_of_everything_that_stands(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 400})
    request_reversal(db, p_reversal_request_id="re_all")
    assert request_lines(db, "re_all") == [("key-1", 600, 600, 0)]

    given_up, successor = withdraw(db)

    at_commit(db)
    assert (given_up["amount"], given_up["status"]) == (400, "permanently_failed")
    assert (successor["status"], successor["reversal_request_id"]) == ("reversal_pending", "re_all")
    assert successor["call_part"] == 2
    assert request_lines(db, "re_all") == [("key-1", 600, 600, 0), ("key-1", 400, 400, 0)]


def test_a_compensation_is_taken_by_a_refund_of_everything_that_stands_and_not_by_its_own(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    request_reversal(db, p_reversal_request_id="re_all")

    _, compensation = withdraw(db)

    at_commit(db)
    assert (compensation["status"], compensation["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    assert compensation["reversal_request_id"] == "re_all"
    assert request_lines(db, "re_all") == [("key-1", 1000, 1000, 0)]
    # And when that one fails as well, it is paid under the name that it would have had.
    _, again = withdraw(db, request="re_all")
    at_commit(db)
    assert (again["status"], again["made_for"], again["root_id"]) == ("pending", "re_1:1", compensation["id"])


def test_a_successor_is_taken_for_what_another_request_could_not_have(db: Database) -> None:
    given_up_for_good(db)
    request_reversal(db, p_reversal_request_id="re_all")
    assert request_lines(db, "re_all") == [("key-1", 1000, 0, 1000)]

    _, successor = withdraw(db)

    at_commit(db)
    assert (successor["status"], successor["reversal_request_id"]) == ("reversal_pending", "re_all")
    assert request_lines(db, "re_all") == [("key-1", 1000, 1000, 0)]


def test_only_what_was_unmet_is_taken_of_it(db: Database) -> None:
    given_up_for_good(db)
    db.execute(
        "insert into marketplace.reversal_requests (reversal_request_id, order_id, reason, is_whole)"
        " values ('re_2', 'order-1', 'refund', false)"
    )
    db.execute(
        "insert into marketplace.reversal_request_lines select 're_2', id, 'key-1', 300, 0, 300"
        " from marketplace.seller_transfers"
    )

    withdraw(db)

    at_commit(db)
    assert story(db) == [
        (1000, "permanently_failed", None),
        (700, "completed", "succeeds 1"),
        (300, "reversal_pending", None),
    ]
    assert request_lines(db, "re_2") == [("key-1", 300, 300, 0)]


def test_parts_are_counted_over_all_that_was_paid_for_a_key(db: Database) -> None:
    record_one(db, success(claimed_call(db)))
    withdraw(db)
    compensation = born_of(db, "compensates")
    db.execute(
        "update marketplace.seller_transfers set status = 'completed', completed_at = clock_timestamp(),"
        " stripe_transfer_id = 'tr_again', next_retry_at = null where id = %s",
        [compensation],
    )
    (taken,) = request_reversal(db, p_reversal_request_id="re_2")
    assert (taken["id"], taken["call_part"]) == (compensation, 1)
    record_one(db, success(claim_again(db, compensation), "trr_again"))
    again = withdraw(db, request="re_2")[-1]

    at_commit(db)
    assert (again["made_for"], again["compensates"], again["status"]) == ("re_2:1", compensation, "pending")
    key = "select marketplace._family_key(t) from marketplace.seller_transfers as t order by t.id"
    assert [each["_family_key"] for each in rows(db, key)] == ["key-1"] * 3
    parts = "select marketplace._next_part(%(id)s, %(request)s)"
    assert value(db, parts, id=again["id"], request="re_1") == 2
    assert value(db, parts, id=again["id"], request="re_3") == 1


def test_what_was_reversed_elsewhere_for_the_request_is_given_back_as_well(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, message="Transfer tr_1 is already fully reversed."))
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, foreign(looked, "trr_f", 1000)))

    withdraw(db)

    assert story(db) == [(1000, "reversed", None), (1000, "pending", "compensates 1")]


def test_what_becomes_free_goes_to_the_oldest_request_that_wants_it(db: Database) -> None:
    record_transfer(db)
    (dead,) = request_parts(db, {"key-1": 400}, "re_1")
    call(db, "give_up", p_id=dead["id"], p_reason="not now")
    # Each asks for all there is, and cannot have those 400.
    request_reversal(db, p_reversal_request_id="re_2")
    request_reversal(db, p_reversal_request_id="re_3")
    assert request_lines(db, "re_2") == [("key-1", 1000, 600, 400)]
    assert request_lines(db, "re_3") == [("key-1", 400, 0, 400)]

    withdraw(db)

    assert request_lines(db, "re_2") == [("key-1", 1000, 1000, 0)]
    assert request_lines(db, "re_3") == [("key-1", 400, 0, 400)]
