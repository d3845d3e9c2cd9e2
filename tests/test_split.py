"""db/functions/split.sql: a row gives a part of its money to a slice."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, value
from tests.support.raw_transfers import STATUSES, add_transfer, enter, run, update_transfer
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    at_commit,
    create_transfer,
    family,
    record_transfer,
    refunded_transfer,
    request_parts,
    request_reversal,
    status_log,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def split(db: Database, transfer_id: int, amount: object) -> int:
    made: int = value(db, "select marketplace._split_transfer(%(id)s, %(amount)s)", id=transfer_id, amount=amount)
    return made


def changed(before: DictRow, after: DictRow) -> dict[str, Any]:
    return {name: after[name] for name in after if after[name] != before[name] and name != "updated_at"}


WHO_AND_WHAT = ("order_id", "seller_id", "destination_account", "source_charge", "currency", "stripe_transfer_id")


def test_a_slice_of_a_paid_row_is_paid_and_begins_with_no_call(db: Database) -> None:
    paid = record_transfer(db, p_source_charge="ch_1")

    made = transfer(db, split(db, paid["id"], 12))

    at_commit(db)
    assert changed(paid, transfer(db, paid["id"])) == {"amount": 988}
    assert {name: made[name] for name in WHO_AND_WHAT} == {
        "order_id": "order-1",
        "seller_id": "seller-1",
        "destination_account": "acct_1",
        "source_charge": "ch_1",
        "currency": "usd",
        "stripe_transfer_id": "tr_1",
    }
    assert (made["original_amount"], made["amount"]) == (12, 12)
    assert (made["root_id"], made["split_from"], made["transfer_key"]) == (paid["id"], paid["id"], None)
    assert (made["status"], made["completed_at"]) == ("completed", paid["completed_at"])
    rest = {name: made[name] for name in made if name.startswith(("call", "lease", "next", "stripe_rev", "reversal"))}
    assert rest == {**dict.fromkeys(rest), "call_replayed": False, "call_unknown": False}


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_slice_of_an_unpaid_row_waits_as_that_one_does_with_a_call_of_its_own(db: Database, status: str) -> None:
    created = create_transfer(db)
    update_transfer(
        db,
        created["id"],
        f"status = '{status}', next_retry_at = now() + interval '1 h', parked_reason = 'why', retry_count = 3,"
        " failure_code = 'code', failure_message = 'No.', call_generation = 2",
    )
    before = transfer(db, created["id"])

    made = transfer(db, split(db, created["id"], 300))

    at_commit(db)
    assert changed(before, transfer(db, created["id"])) == {"amount": 700}
    assert (made["status"], made["amount"], made["completed_at"]) == (status, 300, None)
    assert (made["next_retry_at"], made["parked_reason"]) == (before["next_retry_at"], "why")
    assert (made["call_generation"], made["retry_count"]) == (1, 0)
    assert made["call_minted_at"] == made["created_at"] > before["call_minted_at"]
    assert made["failure_code"] == ("code" if status == "failed" else None)
    steps = [(entry["from_status"], entry["to_status"]) for entry in status_log(db, made["id"])]
    assert steps == [(None, "pending"), ("pending", "failed")][: 1 + (status == "failed")]


def test_a_send_that_was_claimed_and_never_made_is_written_anew_for_what_is_left(db: Database) -> None:
    created = create_transfer(db)
    update_transfer(db, created["id"], "call_params = '{\"amount\": 1000}'")

    split(db, created["id"], 300)

    at_commit(db)
    rest = transfer(db, created["id"])
    assert (rest["amount"], rest["call_params"], rest["call_generation"]) == (700, None, 2)
    assert rest["call_minted_at"] > created["call_minted_at"]


def test_a_slice_of_a_row_on_its_way_back_goes_the_same_way_as_the_next_part(db: Database) -> None:
    asked_back = refunded_transfer(db)
    update_transfer(
        db, asked_back["id"], "streak = 2, streak_verdict = 'transient', streak_since = now(), retry_count = 2"
    )
    before = transfer(db, asked_back["id"])

    made = transfer(db, split(db, asked_back["id"], 400))

    at_commit(db)
    assert changed(before, transfer(db, asked_back["id"])) == {"amount": 600}
    assert (made["status"], made["reversal_request_id"], made["amount"]) == ("reversal_pending", "re_1", 400)
    assert (made["call_part"], made["call_generation"], made["call_params"]) == (2, 1, None)
    assert (made["streak"], made["retry_count"], made["call_minted_at"]) == (0, 0, made["next_retry_at"])
    steps = [(entry["from_status"], entry["to_status"]) for entry in status_log(db, made["id"])]
    assert steps == [(None, "completed"), ("completed", "reversal_pending")]


def test_a_row_whose_call_is_written_gets_another_one_before_the_split_is_committed(db: Database) -> None:
    asked_back = refunded_transfer(db)
    update_transfer(db, asked_back["id"], "call_params = '{\"amount\": 1000}'")

    split(db, asked_back["id"], 400)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        at_commit(db)
    assert refused.value.sqlstate == "ST009"

    update_transfer(db, asked_back["id"], "call_params = null, call_generation = call_generation + 1")
    at_commit(db)


def test_a_slice_can_be_split_and_stays_in_the_family(db: Database) -> None:
    root = record_transfer(db)
    first = split(db, root["id"], 500)

    second = split(db, first, 200)

    at_commit(db)
    assert [(each["id"], each["root_id"], each["split_from"], each["amount"]) for each in family(db, root["id"])] == [
        (root["id"], None, None, 500),
        (first, root["id"], root["id"], 300),
        (second, root["id"], first, 200),
    ]
    assert transfer(db, first)["original_amount"] == 500


def test_only_a_part_can_be_split_off(db: Database) -> None:
    paid = record_transfer(db)
    for amount in (None, 0, -1, 1000, 1001, 2**62):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            split(db, paid["id"], amount)
        diag = refused.value.diag
        assert (amount, diag.sqlstate, diag.column_name) == (amount, "22023", "p_amount")
        assert diag.message_hint
    assert family(db, paid["id"]) == [paid]
    assert split(db, paid["id"], 999)


@pytest.mark.parametrize("end", ["reversed", "permanently_failed"])
def test_a_row_at_its_end_is_not_split(db: Database, end: str) -> None:
    ended = add_transfer(db, end)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        split(db, ended, 1)
    assert refused.value.sqlstate == "ST002"
    assert len(family(db, ended)) == 1


@pytest.mark.parametrize("status", [status for status in STATUSES if status in ("pending", "failed")])
def test_a_row_that_may_be_being_paid_is_not_split(db: Database, status: str) -> None:
    under_way = add_transfer(db, status)
    update_transfer(db, under_way, "call_unknown = true")
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        split(db, under_way, 1)
    assert (refused.value.sqlstate, refused.value.diag.column_name) == ("ST002", "amount")


def test_the_log_tells_the_split_in_words_on_both_rows(db: Database) -> None:
    paid = record_transfer(db)
    (taken,) = request_parts(db, {"key-1": 12})
    db.execute("set marketplace.reason = 'ticket 42'")
    again = split(db, taken["id"], 5)

    root, first = paid["id"], taken["id"]
    assert status_log(db, first)[0]["reason"] == f"split off 12 of transfer {root}: refund re_1 requested"
    assert status_log(db, root)[-1]["reason"] == (
        f"split off 12 as transfer {first}, 988 stay here: refund re_1 requested"
    )
    assert [entry["reason"] for entry in status_log(db, again)] == [
        f"split off 5 of transfer {first} for re_1: ticket 42"
    ] * 2
    note = status_log(db, first)[-1]
    assert (note["from_status"], note["to_status"]) == ("reversal_pending", "reversal_pending")
    assert note["reason"] == f"split off 5 as transfer {again}, 7 stay here: ticket 42"
    assert value(db, "select current_setting('marketplace.reason')") == "ticket 42"


def test_a_slice_is_split_while_a_request_that_has_its_root_waits_for_it(connect: Connect) -> None:
    """Neither shuts the other out of what it needs; with stronger locks in the request it would be a deadlock."""
    db = connect()
    root = record_transfer(db)
    (taken,) = request_parts(db, {"key-1": 400})
    second = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            run(db, f"select from marketplace.seller_transfers where id = {taken['id']} for no key update")
            request = pool.submit(request_reversal, second, p_reversal_request_id="re_2")
            wait_until_blocked(connect(), second)
            made = split(db, taken["id"], 150)
            enter(db, made, "reversed")
        (whole,) = request.result()

    assert (whole["id"], whole["amount"]) == (root["id"], 600)
    assert [(each["amount"], each["status"]) for each in family(db, root["id"])] == [
        (600, "reversal_pending"),
        (250, "reversal_pending"),
        (150, "reversed"),
    ]
