"""db/functions/reconcile_transfers.sql, _sends, _reversals, _elsewhere, _account: what differs, and what does not."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, rows
from tests.support.stripe_lists import (
    ANOTHER_DATABASE,
    begin,
    compared,
    database_id,
    finish,
    found,
    hand_over,
    listed_reversal,
    listed_transfer,
    reversal_mark,
    seconds_ago,
    sent_mark,
)
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    claimed_send,
    create_transfer,
    found_reversal,
    look_up_report,
    record_one,
    record_transfer,
    refunded_transfer,
    refusal,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
    transfer,
)
from tests.support.withdrawals import withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def paid(db: Database, n: int = 1, **changes: Any) -> int:
    """The id of transfer number `n`, sent by this database as tr_n."""
    leased = claimed_send(db, n, **changes)
    record_one(db, sent(leased))
    return int(leased["id"])


def taken_back(db: Database, n: int = 1) -> int:
    """The id of transfer number `n`, recorded as tr_n and taken back by trr_n."""
    leased = claimed_call(db, n)
    record_one(db, success(leased))
    return int(leased["id"])


def only(differences: list[DictRow]) -> DictRow:
    """The one difference."""
    (difference,) = differences
    found(differences)
    return difference


def test_what_is_the_same_on_both_sides_is_no_difference(db: Database) -> None:
    paid(db, 1)
    record_transfer(db, 2)
    taken_back(db, 3)
    record_transfer(db, 4)
    request_parts(db, {"key-4": 300}, "re_4", p_order_id="order-4")
    (slice_,) = claim(db)
    record_one(db, look_up_report(slice_, amount=1000))
    (slice_,) = claim(db)
    record_one(db, success(slice_))
    assert (
        compared(
            db,
            listed_transfer(1, metadata=sent_mark(db, 1)),
            listed_transfer(2),
            listed_transfer(3, amount_reversed=1000),
            listed_reversal(3, metadata=reversal_mark(db, 3)),
            listed_transfer(4, amount_reversed=300),
            listed_reversal(4, amount=300, metadata=reversal_mark(db, 4)),
            # Others use the account as well.
            listed_transfer(5, amount_reversed=400),
            listed_reversal(5, amount=400),
            listed_transfer(6, metadata=sent_mark(db, 6, database=ANOTHER_DATABASE)),
        )
        == []
    )


def test_a_transfer_of_ours_without_a_row_says_how_to_record_it(db: Database) -> None:
    difference = only(compared(db, listed_transfer(1, amount=1234, metadata=sent_mark(db), source_transaction="ch_1")))

    assert (difference["kind"], difference["is_urgent"], difference["order_id"]) == ("lost transfer", True, "order-1")
    assert difference["money"] == "12.34 USD at Stripe"
    db.execute(difference["next_step"].replace("…", "seller-1").encode())
    recorded = transfer(db, rows(db, "select max(id) as id from marketplace.seller_transfers")[0]["id"])
    assert [recorded[name] for name in ("transfer_key", "amount", "source_charge", "stripe_transfer_id", "status")] == [
        "key-1", 1234, "ch_1", "tr_1", "completed",
    ]  # fmt: skip
    assert compared(db, listed_transfer(1, amount=1234, metadata=sent_mark(db))) == []


def test_a_lost_transfer_that_gave_a_withdrawn_request_back_is_had_by_withdrawing_again(db: Database) -> None:
    row = taken_back(db)
    difference = only(
        compared(
            db,
            listed_transfer(1, amount_reversed=1000),
            listed_reversal(1, metadata=reversal_mark(db)),
            listed_transfer(9, destination="acct_1", metadata=sent_mark(db, 1, made_for="re_1:1")),
        )
    )

    assert difference["kind"] == "lost transfer"
    db.execute(difference["next_step"].replace("…", "it failed").encode())
    (compensation,) = rows(db, "select * from marketplace.seller_transfers where compensates = %(id)s", id=row)
    assert compensation["made_for"] == "re_1:1"


def test_two_transfers_for_one_that_was_asked_for_are_urgent(db: Database) -> None:
    row = paid(db)
    difference = only(
        compared(db, listed_transfer(1, metadata=sent_mark(db)), listed_transfer(8, metadata=sent_mark(db)))
    )
    assert (difference["kind"], difference["is_urgent"], difference["transfer_id"]) == ("paid twice", True, row)
    assert "tr_1, tr_8" in difference["why"]


def test_one_that_was_taken_back_in_full_is_no_second_payment(db: Database) -> None:
    paid(db)
    assert (
        compared(
            db,
            listed_transfer(1, metadata=sent_mark(db)),
            listed_transfer(8, metadata=sent_mark(db), amount_reversed=1000),
            listed_reversal(8, transfer="tr_8"),
        )
        == []
    )


def test_one_recorded_by_the_app_and_one_sent_are_two(db: Database) -> None:
    row = record_transfer(db)["id"]
    assert found(compared(db, listed_transfer(1), listed_transfer(8, metadata=sent_mark(db)))) == [
        ("paid twice", row, "tr_8", None)
    ]


def test_a_payment_that_stripe_does_not_have_is_urgent(db: Database) -> None:
    here, gone = paid(db, 1), record_transfer(db, 2)["id"]
    difference = only(compared(db, listed_transfer(1, metadata=sent_mark(db))))
    assert (difference["kind"], difference["transfer_id"], difference["is_urgent"]) == ("not at Stripe", gone, True)
    assert here != gone


@pytest.mark.parametrize("changes", [{"amount": 999}, {"currency": "eur"}, {"destination": "acct_9"}])
def test_a_payment_with_other_values_is_urgent(db: Database, changes: dict[str, Any]) -> None:
    row = paid(db)
    difference = only(compared(db, listed_transfer(1, metadata=sent_mark(db), **changes)))
    assert (difference["kind"], difference["transfer_id"], difference["is_urgent"]) == ("other values", row, True)


def test_a_row_that_does_not_know_that_it_was_paid_is_looked_up_when_told_to(db: Database) -> None:
    row = create_transfer(db)["id"]
    difference = only(compared(db, listed_transfer(1, metadata=sent_mark(db))))

    assert (difference["kind"], difference["transfer_id"], difference["is_urgent"]) == ("paid unheard", row, True)
    db.execute(difference["next_step"].replace("…", "lost by a restore").encode())
    (looked,) = claim_sends(db)
    assert (looked["id"], looked["action"]) == (row, "look_up_transfer")


def test_a_row_given_up_unpaid_that_was_paid_goes_on_when_told_to(db: Database) -> None:
    create_transfer(db)
    request_reversal(db)
    difference = only(compared(db, listed_transfer(1, metadata=sent_mark(db))))

    assert difference["kind"] == "paid unheard"
    db.execute(difference["next_step"].replace("…", "lost by a restore").encode())
    (looked,) = claim_sends(db)
    assert looked["action"] == "look_up_transfer"


def test_a_reversal_of_ours_without_a_row_says_how_to_ask_again(db: Database) -> None:
    row = record_transfer(db)["id"]
    listed = [listed_transfer(1, amount_reversed=700)]
    listed += [
        listed_reversal(1, f"trr_{part}", amount=amount, metadata=reversal_mark(db, part=part))
        for part, amount in ((1, 300), (2, 400))
    ]
    differences = compared(db, *listed)

    assert found(differences) == [("lost reversal", row, "tr_1", "trr_1"), ("lost reversal", row, "tr_1", "trr_2")]
    assert differences[0]["next_step"] == differences[1]["next_step"]
    db.execute(differences[0]["next_step"].encode())
    (asked,) = rows(db, "select asked from marketplace.reversal_request_lines")
    assert asked["asked"] == 700


def test_a_lost_reversal_of_what_the_app_paid_is_found_without_its_row(db: Database) -> None:
    """The transfer bears no mark, for the app made it; what took it back does."""
    taken = listed_reversal(1, amount=400, metadata=reversal_mark(db))
    by_hand = listed_reversal(1, "trr_x", amount=100)
    differences = compared(db, listed_transfer(1, amount_reversed=500), taken, by_hand, listed_transfer(2))

    assert found(differences) == [("lost reversal", None, "tr_1", "trr_1")]
    kept = rows(db, "select stripe_id from marketplace.reconcile_objects order by 1")
    assert [each["stripe_id"] for each in kept] == ["tr_1", "trr_1", "trr_x"]


def test_a_lost_reversal_that_was_taken_for_somebody_elses_is_explained(db: Database) -> None:
    row = record_transfer(db)["id"]
    call(db, "request_reversal", p_order_id="order-1", p_reversal_request_id="re_new")
    (looked,) = claim(db)
    record_one(db, refusal(looked, 400, None, "The transfer tr_1 is already fully reversed."))
    (looked,) = claim(db)
    strange = listed_reversal(1, metadata=reversal_mark(db))
    record_one(db, look_up_report(looked, found_reversal(looked, "trr_1", metadata=strange["metadata"])))
    assert transfer(db, row)["status"] == "reversed"
    assert compared(db, listed_transfer(1, amount_reversed=1000), strange) == []


def test_two_live_reversals_for_one_that_was_asked_for_are_urgent(db: Database) -> None:
    row = taken_back(db)
    listed = [
        listed_reversal(1, name, amount=500, metadata=reversal_mark(db), status=status)
        for name, status in (("trr_1", None), ("trr_2", "pending"), ("trr_3", "failed"), ("trr_4", "canceled"))
    ]
    differences = compared(db, listed_transfer(1, amount_reversed=1000), *listed)
    assert [each["kind"] for each in differences] == ["not reversed", "reversed twice"]
    assert (differences[1]["transfer_id"], differences[1]["is_urgent"]) == (row, True)
    assert "trr_1, trr_2." in differences[1]["why"]


@pytest.mark.parametrize(
    "changes",
    [None, {"status": "failed"}, {"status": "canceled"}, {"amount": 999}, {"currency": "eur"}],
    ids=["gone", "failed", "canceled", "less", "another currency"],
)
def test_a_row_whose_reversal_is_not_what_it_says_is_urgent(db: Database, changes: dict[str, Any] | None) -> None:
    row = taken_back(db)
    listed = [] if changes is None else [listed_reversal(1, metadata=reversal_mark(db), **changes)]
    live = sum(each["amount"] for each in listed if each["status"] is None)
    differences = compared(db, listed_transfer(1, amount_reversed=live), *listed)
    assert [(each["kind"], each["transfer_id"], each["is_urgent"]) for each in differences] == [
        ("not reversed", row, True)
    ]


def test_what_was_taken_back_elsewhere_and_is_not_there_any_more_is_urgent(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, None, "The transfer tr_1 is already fully reversed."))
    (looked,) = claim(db)
    record_one(db, look_up_report(looked, found_reversal(looked, "trr_9", metadata={})))
    listed = listed_transfer(1), listed_reversal(1, "trr_9", status="failed")
    assert found(compared(db, *listed)) == [("not reversed", leased["id"], "tr_1", None)]


def test_an_open_row_that_was_taken_back_unheard_is_looked_up_when_told_to(db: Database) -> None:
    row = refunded_transfer(db)["id"]
    difference = only(
        compared(db, listed_transfer(1, amount_reversed=1000), listed_reversal(1, metadata=reversal_mark(db)))
    )

    assert (difference["kind"], difference["transfer_id"], difference["is_urgent"]) == ("reversed unheard", row, True)
    db.execute(difference["next_step"].replace("…", "lost by a restore").encode())
    (looked,) = claim(db)
    assert (looked["id"], looked["action"]) == (row, "look_up_reversals")


def test_a_row_given_up_that_was_taken_back_goes_on_when_told_to(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such transfer."))
    difference = only(
        compared(db, listed_transfer(1, amount_reversed=1000), listed_reversal(1, metadata=reversal_mark(db)))
    )

    assert (difference["kind"], difference["transfer_id"]) == ("reversed unheard", leased["id"])
    db.execute(difference["next_step"].replace("…", "late").encode())
    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"


def test_what_somebody_else_took_back_unheard_is_looked_up_when_told_to(db: Database) -> None:
    row = record_transfer(db)["id"]
    difference = only(compared(db, listed_transfer(1, amount_reversed=400), listed_reversal(1, amount=400)))

    assert (difference["kind"], difference["transfer_id"]) == ("reversed elsewhere", row)
    assert "4.00 USD" in difference["why"]
    db.execute(difference["next_step"].replace("…", "in the dashboard").encode())
    (looked,) = claim(db)
    record_one(db, look_up_report(looked, found_reversal(looked, "trr_1", amount=400, metadata={}), amount=1000))
    assert compared(db, listed_transfer(1, amount_reversed=400), listed_reversal(1, amount=400)) == []


def test_what_was_given_up_and_taken_back_by_hand_goes_on_when_told_to(db: Database) -> None:
    given_up = refunded_transfer(db)["id"]
    call(db, "give_up", p_id=given_up, p_reason="taken back by hand")
    by_hand = listed_reversal(1, "trr_x")
    difference = only(compared(db, listed_transfer(1, amount_reversed=1000), by_hand))
    assert (difference["kind"], difference["transfer_id"]) == ("reversed elsewhere", given_up)

    db.execute(difference["next_step"].encode())

    (looked,) = claim(db)
    record_one(db, look_up_report(looked, by_hand, amount=1000))
    assert transfer(db, looked["id"])["failure_message"] == "Reversed elsewhere: trr_x (1000)"
    assert compared(db, listed_transfer(1, amount_reversed=1000), by_hand) == []
    (debts,) = rows(db, "select not_given_back from marketplace.seller_debts")
    assert debts["not_given_back"] == 0


def test_a_list_that_does_not_sum_to_what_stripe_says_is_told(db: Database) -> None:
    row = record_transfer(db)["id"]
    assert found(compared(db, listed_transfer(1, amount_reversed=400))) == [("unclear", row, "tr_1", None)]


@pytest.mark.parametrize("counted", [0, 300])
def test_what_is_pending_at_stripe_may_be_counted_there_or_not(db: Database, counted: int) -> None:
    leased = claimed_call(db, p_amount=300)
    record_one(db, success(leased, status="pending"))
    assert (
        compared(
            db,
            listed_transfer(1, amount=300, amount_reversed=counted),
            listed_reversal(1, amount=300, status="pending", metadata=reversal_mark(db)),
        )
        == []
    )


def test_another_database_that_pays_for_the_same_forbids_calls(db: Database) -> None:
    row = create_transfer(db)["id"]
    difference = only(compared(db, listed_transfer(1, metadata=sent_mark(db, database=ANOTHER_DATABASE))))

    assert (difference["kind"], difference["transfer_id"], difference["forbids_calls"]) == (
        "another database",
        row,
        True,
    )
    assert ANOTHER_DATABASE in difference["why"]
    # Not sent yet: it may be the one.
    db.execute(difference["next_step"].encode())
    assert compared(db, listed_transfer(1, metadata=sent_mark(db, database=ANOTHER_DATABASE))) == []


def test_another_database_that_takes_the_same_back_forbids_calls(db: Database) -> None:
    row = record_transfer(db)["id"]
    strange = listed_reversal(1, amount=400, metadata=reversal_mark(db, database=ANOTHER_DATABASE))
    difference = only(compared(db, listed_transfer(1, amount_reversed=400), strange))
    assert (difference["kind"], difference["transfer_id"], difference["forbids_calls"]) == (
        "another database",
        row,
        True,
    )


def test_a_list_without_most_of_what_was_paid_is_of_another_account(db: Database) -> None:
    for n in (1, 2, 3):
        record_transfer(db, n)
    differences = compared(db, listed_transfer(1))
    assert [(each["kind"], each["forbids_calls"]) for each in differences] == [
        ("another account", True),
        ("not at Stripe", False),
        ("not at Stripe", False),
    ]


def test_what_differs_is_read_a_second_time_before_it_is_believed(db: Database) -> None:
    for n in (1, 2, 3, 4):
        record_transfer(db, n)
    run = begin(db)
    hand_over(db, run, listed_transfer(1), listed_transfer(2, amount_reversed=400), listed_transfer(4))

    again = call(db, "transfers_to_reread", p_run_id=run)
    assert [each["transfers_to_reread"] for each in again] == ["tr_2", "tr_3"]
    hand_over(db, run, listed_transfer(2), listed_transfer(3))

    assert finish(db, run) == []
    (ended,) = call(db, "read_reconcile_run")
    assert (ended["transfers"], ended["is_complete"]) == (3, True)


def test_the_list_of_another_account_is_not_read_a_second_time(db: Database) -> None:
    record_transfer(db)
    assert call(db, "transfers_to_reread", p_run_id=begin(db)) == []


# Work in progress is no difference.


def test_a_send_under_way_or_of_unknown_outcome_is_no_difference(db: Database) -> None:
    claimed_send(db, 1)
    record_one(db, timeout(claimed_send(db, 2)))
    assert compared(db, *(listed_transfer(n, metadata=sent_mark(db, n)) for n in (1, 2))) == []


def test_a_reversal_under_way_or_of_unknown_outcome_or_held_is_no_difference(db: Database) -> None:
    claimed_call(db, 1)
    record_one(db, timeout(claimed_call(db, 2)))
    record_one(db, success(claimed_call(db, 3), status="pending"))
    status = {3: "pending"}
    listed = [
        each
        for n in (1, 2, 3)
        for each in (
            listed_transfer(n, amount_reversed=1000),
            listed_reversal(n, metadata=reversal_mark(db, n), status=status.get(n)),
        )
    ]
    assert compared(db, *listed) == []


def test_what_the_rows_came_to_after_the_list_was_begun_is_left_to_the_next_run(db: Database) -> None:
    leased = claimed_call(db, 1)
    to_be_sent = claimed_send(db, 2)
    elsewhere = claimed_call(db, 4)
    record_one(db, refusal(elsewhere, 400, None, "The transfer tr_4 is already fully reversed."))
    (looked,) = claim(db)
    run = begin(db)
    hand_over(db, run, listed_transfer(1), listed_transfer(4))
    record_one(db, success(leased))
    record_one(db, sent(to_be_sent))
    record_transfer(db, 3)
    record_one(db, look_up_report(looked, found_reversal(looked, "trr_4", metadata={})))
    assert finish(db, run) == []


def test_what_somebody_took_back_just_now_may_still_be_told_by_an_event(db: Database) -> None:
    record_transfer(db)
    just_now = listed_reversal(1, amount=400, created=seconds_ago(600))
    assert compared(db, listed_transfer(1, amount_reversed=400), just_now) == []


def test_what_is_being_looked_up_as_made_elsewhere_is_no_difference(db: Database) -> None:
    record_transfer(db)
    listed = listed_transfer(1, amount_reversed=400), listed_reversal(1, amount=400)
    compared(db, *listed)
    run = rows(db, "select max(id) as id from marketplace.reconcile_runs")[0]["id"]
    call(db, "look_up_differences", p_run_id=run, p_reason="in the dashboard")
    assert compared(db, *listed) == []


def test_what_was_withdrawn_and_given_back_is_no_difference(db: Database) -> None:
    taken_back(db)
    withdraw(db)
    (again,) = claim_sends(db)
    record_one(db, sent(again, "tr_9"))
    assert (
        compared(
            db,
            listed_transfer(1, amount_reversed=1000),
            listed_reversal(1, metadata=reversal_mark(db)),
            listed_transfer(9, destination="acct_1", metadata=sent_mark(db, 1, made_for="re_1:1")),
        )
        == []
    )


def test_a_request_that_was_given_up_and_withdrawn_is_no_difference(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 404, "resource_missing", "No such transfer."))
    withdraw(db)
    assert compared(db, listed_transfer(1)) == []


def test_an_older_transfer_need_not_be_on_a_shorter_list(db: Database) -> None:
    record_transfer(db)
    for since, kinds in (("1 hour", []), ("2 days", ["another account", "not at Stripe"])):
        run = begin(db, p_created_since=rows(db, f"select clock_timestamp() - interval '{since}' as at")[0]["at"])
        assert [each["kind"] for each in finish(db, run)] == kinds


def test_a_mark_that_is_a_hash_is_read_by_what_it_is_made_of(db: Database) -> None:
    key = "k" * 200
    made = create_transfer(db, p_transfer_key=key)
    (leased,) = claim_sends(db)
    record_one(db, sent(leased))
    mark = leased["metadata"]
    assert mark["seller_transfers_identity"].removeprefix("transfer:").isalnum()
    assert compared(db, listed_transfer(1, metadata=mark)) == []
    (twice,) = compared(db, listed_transfer(1, metadata=mark), listed_transfer(8, metadata=mark))
    assert (twice["kind"], twice["transfer_id"]) == ("paid twice", made["id"])


def test_comparing_changes_no_transfer(db: Database) -> None:
    create_transfer(db, 1)
    refunded_transfer(db, 2)
    before = rows(db, "select * from marketplace.seller_transfers order by id")
    compared(db, listed_transfer(1, metadata=sent_mark(db)), listed_transfer(2, amount=7))
    assert rows(db, "select * from marketplace.seller_transfers order by id") == before


def test_whose_database_it_is_is_told_by_its_id(db: Database) -> None:
    assert database_id(db) in sent_mark(db)["seller_transfers_identity"]
    with pytest.raises(psycopg.Error) as refused:
        begin(db, p_livemode=None)
    assert refused.value.sqlstate == "22004"
