"""db/functions/split_by_evidence.sql: less is left of a transfer than a row asks for, because others took some."""

import pytest

from tests.support.databases import Database, rows
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.transfers import (
    claim,
    claim_again,
    claimed_call,
    record_one,
    record_transfer,
    refusal,
    request_parts,
    request_reversal,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def family(db: Database) -> list[tuple[int, str, str | None, str | None]]:
    found = rows(db, "select * from marketplace.seller_transfers order by id")
    return [(row["amount"], row["status"], row["stripe_reversal_id"], row["failure_message"]) for row in found]


def settled(db: Database) -> None:
    """What is checked at commit holds."""
    db.execute("set constraints all immediate")
    db.execute("set constraints all deferred")


def test_what_others_took_becomes_a_reversed_slice_and_the_rest_goes_on(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, message="Amount is greater than what is left."))
    looked = claim_again(db, leased["id"])

    recorded = record_one(db, seen(looked, foreign(looked, "trr_f", 300)))

    settled(db)
    assert (recorded["verdict"], recorded["status"]) == ("already_reversed", "reversal_pending")
    row, slice_ = rows(db, "select * from marketplace.seller_transfers order by id")
    assert (row["amount"], row["status"], row["call_generation"]) == (700, "reversal_pending", 2)
    assert (slice_["amount"], slice_["status"], slice_["reversal_request_id"]) == (300, "reversed", "re_1")
    assert slice_["failure_message"] == "Reversed elsewhere: trr_f (300)"
    (again,) = claim(db)
    assert (again["id"], again["action"], again["amount"]) == (row["id"], "reverse", 700)
    assert record_one(db, success(again))["status"] == "reversed"


def test_a_row_that_was_sent_for_more_takes_a_new_key_for_the_rest(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 h")
    looked = claim_again(db, leased["id"])

    record_one(db, seen(looked, foreign(looked, "trr_f", 300)))

    settled(db)
    (again,) = claim(db)
    assert again["amount"] == 700
    assert again["idempotency_key"] == leased["idempotency_key"][:-1] + "2"


def test_the_same_reversal_elsewhere_is_evidence_once(db: Database) -> None:
    record_transfer(db)
    (one,) = request_parts(db, {"key-1": 500}, "re_a")
    (looked,) = claim(db)
    (other,) = request_parts(db, {"key-1": 500}, "re_b")
    taken = foreign(looked, "trr_f", 600)
    record_one(db, seen(looked, taken))
    settled(db)
    # 400 is left: of the first 500, 100 are back already.
    assert (transfer(db, one["id"])["amount"], transfer(db, other["id"])["amount"]) == (400, 500)
    db.execute("update marketplace.seller_transfers set next_retry_at = '2099-01-01' where id = %s", [other["id"]])
    (post,) = claim(db)
    assert (post["id"], post["action"], post["amount"]) == (one["id"], "reverse", 400)
    made = ours(db, post, "trr_1")
    record_one(db, success(post))

    second = claim_again(db, other["id"])
    record_one(db, seen(second, taken, made))

    settled(db)
    assert sorted(family(db)) == [
        (100, "reversed", None, "Reversed elsewhere: trr_f (600)"),
        (400, "reversed", "trr_1", None),
        (500, "reversed", None, "Reversed elsewhere: trr_f (600)"),
    ]


def test_what_a_sibling_used_of_a_reversal_elsewhere_explains_nothing_more(db: Database) -> None:
    record_transfer(db)  # as 1000, and 800 at Stripe
    request_parts(db, {"key-1": 600}, "re_a")
    (looked,) = claim(db)
    (other,) = request_parts(db, {"key-1": 300}, "re_b")
    db.execute("update marketplace.seller_transfers set next_retry_at = '2099-01-01' where id = %s", [other["id"]])
    taken = foreign(looked, "trr_f", 300)
    record_one(db, seen(looked, taken, amount=800))  # 500 are left: 100 of the 300 are used
    (post,) = claim(db)
    assert post["amount"] == 500
    made = ours(db, post, "trr_1")
    record_one(db, success(post))

    second = claim_again(db, other["id"])

    # Nothing is left for its 300, and the other 200 do not make up for it.
    assert record_one(db, seen(second, taken, made, amount=800))["verdict"] == "mismatch"


def test_no_more_is_taken_for_back_than_others_took(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 500})
    (first,) = claim(db)
    # Recorded as 1000, and 700 at Stripe: 200 are missing that nobody took.
    assert record_one(db, seen(first, foreign(first, "trr_f", 100), amount=400))["verdict"] == "mismatch"


def test_part_of_a_transfer_is_looked_up_before_it_is_first_sent(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 1})

    (looked,) = claim(db)
    assert (looked["action"], looked["amount"], looked["metadata"]) == ("look_up_reversals", 1, None)
    assert record_one(db, seen(looked))["verdict"] == "absent"
    (leased,) = claim(db)
    assert (leased["action"], leased["amount"]) == ("reverse", 1)
    assert transfer(db, leased["id"])["call_params"]["amount"] == 1


def test_the_rest_of_a_transfer_is_not_the_whole_of_it(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    db.execute("update marketplace.seller_transfers set next_retry_at = '2099-01-01' where id = %s", [part["id"]])
    request_reversal(db, p_reversal_request_id="re_b")

    (rest,) = claim(db)

    assert (rest["amount"], rest["action"]) == (600, "look_up_reversals")


def test_of_two_slices_of_a_transfer_one_is_leased_at_a_time(db: Database) -> None:
    record_transfer(db)
    record_transfer(db, 2)
    for request in ("re_a", "re_b", "re_c"):
        request_parts(db, {"key-1": 100}, request)
    request_reversal(db, 2)

    first = claim(db)
    assert [(leased["stripe_transfer_id"]) for leased in first] == ["tr_1", "tr_2"]
    assert claim(db, worker="worker-2") == []
    record_one(db, seen(first[0]))
    (second,) = claim(db, worker="worker-2")
    assert second["stripe_transfer_id"] == "tr_1"
    assert claim(db) == []
