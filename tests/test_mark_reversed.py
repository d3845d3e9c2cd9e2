"""db/functions/mark_reversed.sql: a person says by which reversal the money came back."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, rows, value
from tests.support.events import event, ingest
from tests.support.look_ups import foreign, identity_of, ours, pass_time, seen
from tests.support.raw_transfers import run
from tests.support.transfers import (
    Facts,
    at_commit,
    call,
    claim,
    claim_again,
    claim_post,
    claimed_call,
    contents,
    create_transfer,
    lapse_lease,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_parts,
    request_reversal,
    status_log,
    success,
    timeout,
    transfer,
)
from tests.support.withdrawals import story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def mark(db: Database, transfer_id: int, reversal: str = "trr_x") -> DictRow:
    said = {"p_id": transfer_id, "p_stripe_reversal_id": reversal, "p_reason": "ticket 42"}
    (row,) = call(db, "mark_reversed", **said)
    return row


def look(db: Database, transfer_id: int, *others: Facts, amount: int = 1000) -> DictRow:
    """The look-up for a row whose reversal was named; it finds these. The row afterwards."""
    looked = claim_again(db, transfer_id)
    assert looked["action"] == "look_up_reversals"
    record_one(db, seen(looked, *others, amount=amount))
    return transfer(db, transfer_id)


def elsewhere(reversal: str = "trr_x", amount: int = 1000, **changes: Any) -> Facts:
    """A reversal of tr_1 that somebody made in the dashboard."""
    return foreign({"currency": "usd", "stripe_transfer_id": "tr_1"}, reversal, amount, **changes)


def refused(db: Database, *arguments: Any) -> psycopg.errors.Diagnostic:
    """Refused, in words, and nothing has changed."""
    before = contents(db)
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        mark(db, *arguments)
    assert caught.value.diag.message_hint
    assert contents(db) == before
    return caught.value.diag


def moved_twice(db: Database, passed: str = "1 s") -> int:
    """A row that a look-up, made `passed` after its request, parked for two reversals of ours."""
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], passed)
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, ours(db, looked, "trr_a"), ours(db, looked, "trr_b"), amount=2000))
    return int(leased["id"])


def test_of_two_reversals_of_ours_a_person_says_which_stands_for_the_row(db: Database) -> None:
    row_id = moved_twice(db, "2 hours")

    done = mark(db, row_id, "trr_b")

    assert (done["status"], done["stripe_reversal_id"], done["call_unknown"]) == ("reversed", "trr_b", False)
    assert (done["parked_reason"], done["failure_code"], done["failure_message"]) == (None, None, None)
    assert status_log(db, row_id)[-1]["reason"] == "marked reversed by postgres, by trr_b: ticket 42"
    assert call(db, "read_needs_attention") == []


def test_a_reversal_is_chosen_only_when_no_other_can_arrive_any_more(db: Database) -> None:
    row_id = moved_twice(db)
    diag = refused(db, row_id, "trr_b")
    assert (diag.sqlstate, diag.column_name) == ("ST002", "parked_reason")
    assert f"retry_now(p_id => {row_id}" in str(diag.message_hint)

    pass_time(db, row_id, "2 hours")
    call(db, "retry_now", p_id=row_id, p_reason="it is quiet")
    (looked,) = claim(db)
    record_one(db, seen(looked, ours(db, looked, "trr_a"), ours(db, looked, "trr_b"), amount=2000))

    assert mark(db, row_id, "trr_b")["stripe_reversal_id"] == "trr_b"


def test_of_a_row_that_is_parked_only_what_it_is_parked_for_is_taken(db: Database) -> None:
    row_id = moved_twice(db, "2 hours")
    diag = refused(db, row_id, "trr_c")
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_reversal_id")
    assert "trr_a, trr_b" in str(diag.message_hint)


def test_what_stripe_accepted_for_a_row_is_what_stands_for_it(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_a", status="pending"))
    assert refused(db, leased["id"], "trr_a").column_name == "stripe_reversal_id"
    pass_time(db, leased["id"], "2 hours")
    looked = claim_again(db, leased["id"])
    record_one(db, seen(looked, ours(db, looked, "trr_b")))
    assert transfer(db, leased["id"])["parked_reason"].startswith("mismatch: Stripe has trr_b")

    assert refused(db, leased["id"], "trr_b").sqlstate == "ST003"
    assert mark(db, leased["id"], "trr_a")["stripe_reversal_id"] == "trr_a"


def test_a_reversal_made_elsewhere_is_named_in_words(db: Database) -> None:
    row_id = refunded_transfer(db)["id"]

    named = mark(db, row_id)
    assert (named["status"], named["named_reversal_id"]) == ("reversal_pending", "trr_x")
    assert status_log(db, row_id)[-1]["reason"] == "reversed elsewhere by trr_x, says postgres: ticket 42"

    done = look(db, row_id, elsewhere())

    # The id is ours only; a look-up of its own would have left the same.
    assert (done["status"], done["stripe_reversal_id"], done["failure_code"]) == ("reversed", None, "already_reversed")
    assert done["failure_message"] == "Reversed elsewhere: trr_x (1000), as a person said"
    assert done["named_reversal_id"] is None
    at_commit(db)
    # Stripe tells of it afterwards, and nothing more is taken for it.
    listed = {"object": "list", "data": [foreign({"currency": "usd", "stripe_transfer_id": "tr_1"}, "trr_x", 1000)]}
    told = {"id": "tr_1", "object": "transfer", "amount": 1000, "amount_reversed": 1000, "reversals": listed}
    assert ingest(db, event("transfer.reversed", told))["result"] == "ignored"
    assert story(db) == [(1000, "reversed", None)]


def test_one_reversal_is_evidence_for_one_row(db: Database) -> None:
    record_one(db, success(claimed_call(db, 1), "trr_1"))
    record_transfer(db, 2, p_order_id="order-2", p_transfer_key="key-2")
    one, two = (
        request_parts(db, {"key-2": amount}, request, p_order_id="order-2")[0]["id"]
        for amount, request in ((300, "re_3"), (500, "re_4"))
    )
    assert (refused(db, one, "trr_1").sqlstate, refused(db, one, "trr_1").constraint_name) == (
        "ST003",
        "uq_seller_transfers_stripe_reversal_id",
    )
    mark(db, one, "trr_x")
    assert "retry_now(" in str(refused(db, two, "trr_x").message_hint)
    # Not what only begins like it.
    assert mark(db, two, "trr_xx")["named_reversal_id"] == "trr_xx"


def test_a_reversal_of_ours_that_came_to_nothing_is_none(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_a", status="failed"))
    assert transfer(db, leased["id"])["failure_code"] == "insufficient_balance"
    diag = refused(db, leased["id"], "trr_a")
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_reversal_id")


def test_of_a_row_that_is_parked_one_that_failed_is_not_taken(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_a", status="failed"))
    record_one(db, timeout(claim_post(db, leased["id"])))
    pass_time(db, leased["id"], "2 hours")
    looked = claim_again(db, leased["id"])
    listed = [ours(db, looked, "trr_a", status="failed"), ours(db, looked, "trr_b"), ours(db, looked, "trr_c")]
    record_one(db, seen(looked, *listed, amount=2000))
    diag = refused(db, leased["id"], "trr_a")
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_reversal_id")
    assert mark(db, leased["id"], "trr_c")["status"] == "reversed"


def test_what_was_made_for_a_row_before_it_is_not_taken_for_somebody_elses(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, "trr_a", status="failed"))
    call(db, "give_up", p_id=leased["id"], p_reason="for now")
    (successor,) = call(db, "reopen", p_id=leased["id"], p_reason="now")
    diag = refused(db, successor["id"], "trr_a")
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_reversal_id")
    assert f"made for transfer {leased['id']} here" in str(diag.message_primary)


def test_what_may_have_been_made_for_another_part_is_not_taken_for_somebody_elses(db: Database) -> None:
    record_transfer(db)
    one, two = (request_parts(db, {"key-1": 400}, request)[0]["id"] for request in ("re_1", "re_2"))
    run(db, f"update marketplace.seller_transfers set next_retry_at = now() + interval '1 day' where id = {two}")
    leased = claim_post(db, one)
    assert refused(db, two, "trr_1").sqlstate == "ST002"
    lapse_lease(db, one)
    (looked,) = claim(db)
    assert f"retry_now(p_id => {one}" in str(refused(db, two, "trr_1").message_hint)
    record_one(db, success(leased, "trr_1"))
    diag = refused(db, two, "trr_1")
    assert (diag.sqlstate, diag.column_name) == ("22023", "p_stripe_reversal_id")

    record_one(db, seen(looked, ours(db, looked, "trr_1")))
    assert refused(db, two, "trr_1").sqlstate == "ST003"
    mark(db, two)
    taken = ours(db, looked, "trr_1", amount=400)
    assert look(db, two, taken, elsewhere(amount=400))["status"] == "reversed"


DOUBTS = {
    "lease_token": (
        "lease_token = gen_random_uuid(), leased_at = now() - interval '1 h',"
        " lease_expires_at = now() - interval '1 s', leased_by = 'worker-1', lease_action = 'reverse'"
    ),
    "call_unknown": "call_unknown = true",
    "parked_reason": "parked_reason = 'conflict: look'",
    "stripe_reversal_id": "stripe_reversal_id = 'trr_9'",
    "call_absent_at": "call_params = jsonb_build_object('amount', amount)",
}


@pytest.mark.parametrize("column", DOUBTS)
def test_while_a_request_of_ours_may_be_executed_nothing_is_marked(db: Database, column: str) -> None:
    row_id = refunded_transfer(db)["id"]
    run(db, f"update marketplace.seller_transfers set {DOUBTS[column]} where id = {row_id}")
    diag = refused(db, row_id)
    assert (diag.sqlstate, diag.column_name) == ("ST002", column)
    assert f"retry_now(p_id => {row_id}" in str(diag.message_hint)


def test_a_parked_row_that_a_worker_still_holds_is_not_marked(db: Database) -> None:
    row_id = moved_twice(db, "2 hours")
    call(db, "retry_now", p_id=row_id, p_reason="again")
    (looked,) = claim(db)
    assert refused(db, row_id, "trr_a").column_name == "lease_token"
    lapse_lease(db, looked["id"])
    assert refused(db, row_id, "trr_a").column_name == "lease_token"


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("pending", "give_up("),
        ("completed", "request_reversal()"),
        ("reversed", "withdraw_reversal_request()"),
        ("permanently_failed", "reopen("),
    ],
)
def test_what_is_not_on_its_way_back_is_refused_with_the_right_call(db: Database, status: str, names: str) -> None:
    if status == "pending":
        row_id = create_transfer(db)["id"]
    elif status == "completed":
        row_id = record_transfer(db)["id"]
    elif status == "reversed":
        row_id = record_one(db, success(claimed_call(db)))["id"]
    else:
        row_id = record_one(db, refusal(claimed_call(db), 404, "resource_missing"))["id"]
    diag = refused(db, row_id)
    assert (diag.sqlstate, diag.column_name) == ("ST002", "status")
    assert names in str(diag.message_hint)


def test_what_was_taken_back_elsewhere_for_a_refund_that_failed_is_given_back(db: Database) -> None:
    row_id = refunded_transfer(db)["id"]
    mark(db, row_id)
    withdraw(db)
    assert story(db) == [(1000, "reversal_pending", None)]
    look(db, row_id, elsewhere())
    at_commit(db)
    assert story(db) == [(1000, "reversed", None), (1000, "pending", "compensates 1")]


def test_a_part_is_marked_like_a_whole(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    mark(db, part["id"])
    look(db, part["id"], elsewhere(amount=400))
    at_commit(db)
    assert story(db) == [(600, "completed", None), (400, "reversed", None)]
    left = rows(db, "select amount from marketplace.seller_transfers where status = 'completed'")
    assert [each["amount"] for each in left] == [600]


def test_what_was_named_took_less_back_than_the_row_and_the_rest_goes_on(db: Database) -> None:
    row_id = refunded_transfer(db)["id"]
    mark(db, row_id)

    left = look(db, row_id, elsewhere(amount=300))

    at_commit(db)
    assert story(db) == [(700, "reversal_pending", None), (300, "reversed", None)]
    assert left["named_reversal_id"] is None
    (leased,) = claim(db)
    assert (leased["action"], leased["amount"]) == ("reverse", 700)


REFUTED = {
    "is no reversal of tr_1": [],
    "took nothing back: it is failed": [elsewhere(status="failed")],
    "took nothing back: it is canceled": [elsewhere(status="canceled")],
    "is in eur": [elsewhere(amount=400, currency="eur")],
}


@pytest.mark.parametrize("why", REFUTED)
def test_what_was_named_and_is_not_so_is_said_and_nothing_is_taken_back_before_somebody_decides(
    db: Database, why: str
) -> None:
    record_transfer(db)
    row_id = request_parts(db, {"key-1": 400})[0]["id"]
    mark(db, row_id)

    row = look(db, row_id, *REFUTED[why])

    assert (row["status"], row["named_reversal_id"]) == ("reversal_pending", None)
    assert row["parked_reason"].startswith(f"refuted: trr_x {why}. Name the right one")
    assert claim(db) == []
    assert value(db, "select reason from marketplace.open_reversals where needs_a_person") == "refuted"
    # What was refuted is no reversal of ours now.
    assert mark(db, row_id, "trr_y")["named_reversal_id"] == "trr_y"
    assert look(db, row_id, elsewhere("trr_y", 400))["status"] == "reversed"


def test_what_was_refuted_may_be_given_up_or_taken_back_after_all(db: Database) -> None:
    record_transfer(db)
    one, two = (request_parts(db, {"key-1": 400}, request)[0]["id"] for request in ("re_1", "re_2"))
    run(db, f"update marketplace.seller_transfers set next_retry_at = now() + interval '1 day' where id = {two}")
    mark(db, one)
    look(db, one)
    mark(db, two)
    look(db, two)

    (ended,) = call(db, "give_up", p_id=one, p_reason="he keeps it")
    assert ended["failure_code"] == "given_up"
    call(db, "retry_now", p_id=two, p_reason="take it")
    assert (claim_post(db, two)["amount"], claim(db)) == (400, [])


def test_one_reversal_is_used_once_whoever_names_it(db: Database) -> None:
    record_transfer(db)
    one, two = (request_parts(db, {"key-1": 400}, request)[0]["id"] for request in ("re_1", "re_2"))
    run(db, f"update marketplace.seller_transfers set next_retry_at = now() + interval '1 day' where id = {two}")
    mark(db, one)
    assert refused(db, two).sqlstate == "ST003"
    look(db, one, elsewhere(amount=400))
    mark(db, two, "trr_y")

    # Of the 500 that two reversals come to, 400 are used.
    look(db, two, elsewhere(amount=400), elsewhere("trr_y", 100))

    at_commit(db)
    assert story(db) == [(200, "completed", None), (400, "reversed", None), (300, "reversal_pending", None),
                         (100, "reversed", None)]  # fmt: skip


def two_parts(db: Database) -> tuple[int, int]:
    """Two refunds of 400 of tr_1; of the first a look-up finds that trr_x took it back."""
    record_transfer(db)
    one, two = (request_parts(db, {"key-1": 400}, request)[0]["id"] for request in ("re_1", "re_2"))
    run(db, f"update marketplace.seller_transfers set next_retry_at = now() + interval '1 day' where id = {two}")
    mark(db, one)
    assert look(db, one, elsewhere(amount=400))["status"] == "reversed"
    return one, two


@pytest.mark.parametrize(
    ("found", "came_back"),
    [
        ([elsewhere(amount=400), elsewhere("trr_y", 300), elsewhere("trr_z", 200)], 300),
        # What stood for the other one failed since: this one has to stand for that first.
        ([elsewhere(amount=400, status="failed"), elsewhere("trr_y", 500)], 100),
        ([elsewhere(amount=400, status="failed"), elsewhere("trr_y", 300)], None),
    ],
)
def test_a_row_came_back_as_far_as_what_was_named_goes_and_is_not_used_up(
    db: Database, found: list[Facts], came_back: int | None
) -> None:
    _, two = two_parts(db)
    mark(db, two, "trr_y")

    row = look(db, two, *found)

    at_commit(db)
    assert row["amount"] == 400 - (came_back or 0)
    assert (row["parked_reason"] or "").startswith("" if came_back else "refuted: trr_y stands for other rows already")
    assert (row["parked_reason"] is None) == (came_back is not None)


def test_what_was_named_and_bears_a_mark_of_ours_was_not_made_elsewhere(db: Database) -> None:
    one, two = two_parts(db)
    mark(db, two, "trr_y")

    row = look(db, two, elsewhere(amount=400), {**elsewhere("trr_y", 400), **mark_of(db, one)})

    assert row["parked_reason"].startswith("refuted: trr_y was made here, and not elsewhere")


def mark_of(db: Database, transfer_id: int) -> Facts:
    return {"metadata": {"seller_transfers_identity": identity_of(db, transfer_id)}}


def test_whoever_named_the_wrong_one_names_another(db: Database) -> None:
    row_id = refunded_transfer(db)["id"]
    mark(db, row_id, "trr_y")
    assert mark(db, row_id)["named_reversal_id"] == "trr_x"


def test_until_it_was_looked_for_nothing_is_given_up_and_what_stripe_has_not_made_waits(db: Database) -> None:
    row_id = refunded_transfer(db)["id"]
    mark(db, row_id)
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        call(db, "give_up", p_id=row_id, p_reason="no")
    assert (caught.value.sqlstate, caught.value.diag.column_name) == ("ST002", "named_reversal_id")

    assert look(db, row_id, elsewhere(status="pending"))["named_reversal_id"] == "trr_x"
    assert look(db, row_id, elsewhere())["status"] == "reversed"


def test_without_the_id_of_its_transfer_a_person_is_believed(db: Database) -> None:
    record_transfer(db, p_stripe_transfer_id=None)
    (row,) = request_reversal(db)

    done = mark(db, row["id"])

    assert done["failure_message"] == "Reversed elsewhere: trr_x (1000). Marked by postgres: ticket 42"


def test_what_was_parked_for_a_refund_that_failed_is_given_back_once_it_is_marked(db: Database) -> None:
    row_id = moved_twice(db, "2 hours")
    withdraw(db)
    assert story(db) == [(1000, "reversal_pending", None)]
    mark(db, row_id, "trr_b")
    at_commit(db)
    assert story(db) == [(1000, "reversed", None), (1000, "pending", "compensates 1")]
