"""A transfer of ours that Stripe has for another amount than its row's: a failover lost a split."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, rows, value
from tests.support.evidence import send_identity
from tests.support.failovers import pass_since_failover
from tests.support.look_ups import foreign, pass_time, seen
from tests.support.stripe_lists import compared, listed_transfer
from tests.support.transfers import (
    Facts,
    at_commit,
    call,
    claim,
    claim_again,
    claim_send_again,
    claim_sends,
    claimed_send,
    create_transfer,
    family,
    record_one,
    request_lines,
    request_reversal,
    sent,
    status_log,
    timeout,
    transfer,
    transfer_object,
    transfers_found,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def lose(db: Database) -> None:
    """A failover, noticed so long ago that nothing of the lost history can arrive any more."""
    call(db, "look_up_first", p_reason="a standby took over")
    pass_since_failover(db, "2 h")


def lost_send(db: Database, **changes: Any) -> int:
    """A transfer of 1000 that a lost history has sent."""
    transfer_id = int(create_transfer(db, **changes)["id"])
    lose(db)
    return transfer_id


def find(db: Database, transfer_id: int, *others: tuple[str, int, str], amount: int = 700, **changes: Any) -> DictRow:
    """The look-up finds tr_1 of this amount under the row's identity; others by id, amount and what they are for."""
    leased = claim_send_again(db, transfer_id)
    assert leased["action"] == "look_up_transfer"
    listed = [marked(db, leased, *each) for each in others]
    found = transfer_object(leased, "tr_1", amount=amount, **changes)
    return record_one(db, transfers_found(leased, *listed, found))


def marked(db: Database, leased: DictRow, name: str, amount: int, made_for: str) -> Facts:
    """A transfer that a lost history made for a part of this key."""
    metadata = {"seller_transfers_identity": send_identity(db, "key-1", made_for), "transfer_key": "key-1"}
    return transfer_object(leased, name, amount=amount, metadata=metadata)


def books(db: Database, root_id: int) -> list[tuple[int, str, str | None, str | None]]:
    """The family, once what is deferred has been asked: amount, status, transfer at Stripe, request."""
    at_commit(db)
    return [
        (each["amount"], each["status"], each["stripe_transfer_id"], each["reversal_request_id"])
        for each in family(db, root_id)
    ]


def ask(db: Database, amount: int = 300, request: str = "re_1") -> None:
    request_reversal(db, p_reversal_request_id=request, p_amount=amount)


def withdraw(db: Database, request: str = "re_1") -> None:
    call(db, "withdraw_reversal_request", p_reversal_request_id=request, p_reason="the refund failed")


def held_slice(db: Database) -> int:
    """The rest of a transfer that was found for less."""
    root_id = lost_send(db)
    find(db, root_id)
    return int(value(db, "select id from marketplace.seller_transfers where parked_reason like 'held:%'"))


def test_what_was_sent_is_paid_and_the_rest_waits(db: Database) -> None:
    transfer_id = lost_send(db)

    recorded = find(db, transfer_id)

    assert (recorded["verdict"], recorded["status"]) == ("succeeded", "completed")
    assert books(db, transfer_id) == [(700, "completed", "tr_1", None), (300, "pending", None, None)]
    (held,) = rows(db, "select * from marketplace.needs_attention_full where problem = 'parked'")
    assert held["why"].startswith("held: tr_1 is 3.00 USD less than transfer")
    assert (held["is_urgent"], "retry_now" in held["next_step"]) == (True, True)
    assert (claim_sends(db), claim(db)) == ([], [])
    assert value(db, "select reason from marketplace.open_transfers where needs_a_person") == "held"


def test_as_long_as_something_may_arrive_nothing_is_split(db: Database) -> None:
    leased = claimed_send(db)
    record_one(db, timeout(leased))

    assert find(db, leased["id"])["verdict"] == "unclear"
    assert books(db, leased["id"]) == [(1000, "pending", None, None)]

    pass_time(db, leased["id"], "2 h")
    assert find(db, leased["id"])["verdict"] == "succeeded"
    assert [amount for amount, *_ in books(db, leased["id"])] == [700, 300]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_refund_asked_again_takes_what_was_not_sent(db: Database, when: str) -> None:
    transfer_id = lost_send(db)

    if when == "before":
        ask(db)
        assert request_lines(db) == [("key-1", 300, 0, 300)]
    find(db, transfer_id)
    if when == "after":
        ask(db)

    assert books(db, transfer_id) == [(700, "completed", "tr_1", None), (300, "permanently_failed", None, "re_1")]
    assert request_lines(db) == [("key-1", 300, 300, 0)]
    assert (claim_sends(db), claim(db)) == ([], [])
    assert value(db, "select count(*) from marketplace.needs_attention where problem = 'parked'") == 0


def test_a_refund_of_everything_takes_the_rest_and_what_was_sent(db: Database) -> None:
    transfer_id = lost_send(db)
    find(db, transfer_id)

    request_reversal(db)

    assert books(db, transfer_id) == [
        (700, "reversal_pending", "tr_1", "re_1"),
        (300, "permanently_failed", None, "re_1"),
    ]


def test_a_smaller_refund_leaves_the_remainder_held(db: Database) -> None:
    transfer_id = lost_send(db)
    find(db, transfer_id)

    ask(db, 100)
    ask(db, 350, "re_2")

    assert books(db, transfer_id) == [
        (550, "completed", "tr_1", None),
        (200, "permanently_failed", None, "re_2"),
        (100, "permanently_failed", None, "re_1"),
        (150, "reversal_pending", "tr_1", "re_2"),
    ]


@pytest.mark.parametrize(("when", "was_sent"), [("before", True), ("before", False), ("after", False)])
def test_the_refund_asked_and_withdrawn_again_pays_the_rest_once(db: Database, when: str, was_sent: bool) -> None:
    transfer_id = lost_send(db)
    other = [("tr_2", 300, "re_1:1")] if was_sent else []

    if when == "before":
        ask(db)
        withdraw(db)
    find(db, transfer_id, *other)
    if when == "after":
        ask(db)
        withdraw(db)

    leased = claim_send_again(db, family(db, transfer_id)[-1]["id"])
    assert leased["action"] == "look_up_transfer"
    first = transfer_object(leased, "tr_1", amount=700, metadata={})
    record_one(db, transfers_found(leased, first, *(marked(db, leased, *each) for each in other)))
    if not was_sent:
        (leased,) = claim_sends(db)
        assert (leased["action"], leased["amount"]) == ("send", 300)
        record_one(db, sent(leased, "tr_2"))
    assert books(db, transfer_id) == [
        (700, "completed", "tr_1", None),
        (300, "permanently_failed", None, "re_1"),
        (300, "completed", "tr_2", None),
    ]


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_was_paid_for_one_refund_is_looked_for_before_another_has_the_rest(db: Database, was_sent: bool) -> None:
    transfer_id = lost_send(db)
    other = [("tr_2", 300, "re_1:1")] if was_sent else []
    ask(db)
    withdraw(db)
    ask(db, request="re_2")
    find(db, transfer_id, *other)

    leased = claim_send_again(db, family(db, transfer_id)[-1]["id"])
    first = transfer_object(leased, "tr_1", amount=700, metadata={})
    record_one(db, transfers_found(leased, first, *(marked(db, leased, *each) for each in other)))

    # Of 1000, 300 are refunded: they are taken of what is certain to be paid, and the rest is paid once.
    assert books(db, transfer_id) == [
        (400, "completed", "tr_1", None),
        (300, "permanently_failed", None, "re_1"),
        (300, "completed", "tr_2", None) if was_sent else (300, "pending", None, None),
        (300, "reversal_pending", "tr_1", "re_2"),
    ]


def test_what_was_paid_beside_is_a_persons_where_nobody_says_in_time_what_for(db: Database) -> None:
    transfer_id = lost_send(db)
    find(db, transfer_id, ("tr_2", 300, "re_1:1"))
    ask(db, request="re_2")
    assert books(db, transfer_id) == [
        (400, "completed", "tr_1", None),
        (300, "pending", None, None),
        (300, "reversal_pending", "tr_1", "re_2"),
    ]

    held = family(db, transfer_id)[1]["id"]
    (going_on,) = call(db, "retry_now", p_id=held, p_reason="all was asked again")
    leased = claim_send_again(db, going_on["id"])
    first = transfer_object(leased, "tr_1", amount=700, metadata={})
    record_one(db, transfers_found(leased, first, marked(db, leased, "tr_2", 300, "re_1:1")))
    assert "tr_2 (300 usd)" in transfer(db, going_on["id"])["parked_reason"]
    call(db, "mark_paid", p_id=going_on["id"], p_stripe_transfer_id="tr_2", p_reason="it was sent for re_1")

    assert transfer(db, going_on["id"])["status"] == "completed"


def test_what_a_lost_history_sent_beside_it_is_named(db: Database) -> None:
    transfer_id = lost_send(db)

    find(db, transfer_id, ("tr_2", 300, "re_1:1"))

    (held,) = [each["parked_reason"] for each in family(db, transfer_id) if each["parked_reason"]]
    assert held.endswith("Stripe has tr_1 (700 usd); also tr_2 (300 usd)")


@pytest.mark.parametrize("first", ["re_1", "re_2"])
def test_asked_again_in_any_order_nothing_is_reversed_twice(db: Database, first: str) -> None:
    # The lost history: re_1 of 300, 700 sent, re_2 of 200 reversed.
    transfer_id = lost_send(db)
    for request, amount in sorted({"re_1": 300, "re_2": 200}.items(), reverse=first == "re_2"):
        ask(db, amount, request)

    find(db, transfer_id, amount_reversed=200)

    # Either is taken of what was sent, and what was not sent is owed: 700 - 300 - 200 + 300.
    assert books(db, transfer_id)[:2] == [(200, "completed", "tr_1", None), (300, "pending", None, None)]
    taken = {each["reversal_request_id"]: each for each in family(db, transfer_id) if each["reversal_request_id"]}
    assert {request: each["amount"] for request, each in taken.items()} == {"re_1": 300, "re_2": 200}
    for request in ("re_2", "re_1"):
        pass_time(db, taken[request]["id"], "1 h")
        (looked,) = claim(db)
        listed = foreign(looked, "trr_2", 200, metadata=taken_mark(db, "re_2"))
        verdict = record_one(db, seen(looked, listed, amount=700))["verdict"]
        assert verdict == ("succeeded" if looked["amount"] == 200 else "absent")
    (held,) = [each["id"] for each in family(db, transfer_id) if each["parked_reason"]]
    (goes_on,) = call(db, "retry_now", p_id=held, p_reason="all has been asked again")
    assert (goes_on["amount"], goes_on["status"]) == (300, "pending")


def taken_mark(db: Database, request: str) -> dict[str, str]:
    """What the first part of a request is reversed under."""
    database_id = value(db, "select database_id from marketplace.stripe_control")
    return {"seller_transfers_identity": f"reversal:{database_id}:tr_1:{request}:1"}


def test_a_person_has_the_rest_sent_under_a_name_of_its_own(db: Database) -> None:
    held_id = held_slice(db)

    (goes_on,) = call(db, "retry_now", p_id=held_id, p_reason="nobody refunded it")

    assert (goes_on["successor_of"], goes_on["status"], goes_on["made_for"]) == (held_id, "pending", "rest:tr_1")
    assert "nobody refunded it" in status_log(db, held_id)[-1]["reason"]
    looked = claim_send_again(db, goes_on["id"])
    assert looked["action"] == "look_up_transfer"
    record_one(db, transfers_found(looked, transfer_object(looked, "tr_1", amount=700, metadata={})))
    (leased,) = claim_sends(db)
    identity = send_identity(db, "key-1", "rest:tr_1")
    assert (leased["amount"], leased["idempotency_key"]) == (300, f"{identity}:1")
    record_one(db, sent(leased, "tr_2"))
    assert books(db, transfer(db, held_id)["root_id"]) == [
        (700, "completed", "tr_1", None),
        (300, "permanently_failed", None, None),
        (300, "completed", "tr_2", None),
    ]


def test_what_a_person_had_sent_is_found_by_that_name_after_another_failover(db: Database) -> None:
    held_id = held_slice(db)
    lose(db)

    (goes_on,) = call(db, "retry_now", p_id=held_id, p_reason="as before")
    looked = claim_send_again(db, goes_on["id"])
    found = record_one(db, transfers_found(looked, marked(db, looked, "tr_2", 300, "rest:tr_1")))

    assert (found["verdict"], transfer(db, goes_on["id"])["stripe_transfer_id"]) == ("succeeded", "tr_2")


def test_a_comparison_says_how_the_rest_that_was_sent_is_had_again(db: Database) -> None:
    held_id = held_slice(db)
    metadata = {"seller_transfers_identity": send_identity(db, "key-1", "rest:tr_1"), "transfer_key": "key-1"}
    first = {**metadata, "seller_transfers_identity": send_identity(db, "key-1")}

    (difference,) = compared(
        db,
        listed_transfer(1, amount=700, metadata=first),
        listed_transfer(2, amount=300, destination="acct_1", metadata=metadata),
    )

    assert (difference["kind"], difference["stripe_transfer_id"]) == ("lost transfer", "tr_2")
    db.execute(difference["next_step"].encode())
    looked = claim_sends(db)[0]
    assert (
        record_one(db, transfers_found(looked, marked(db, looked, "tr_2", 300, "rest:tr_1")))["status"] == "completed"
    )
    assert transfer(db, held_id)["status"] == "permanently_failed"


def test_after_another_failover_it_is_not_certain_what_became_of_the_rest(db: Database) -> None:
    held_id = held_slice(db)
    pass_time(db, held_id, "3 h")
    lose(db)

    ask(db)

    # It may have been sent: what is paid gives the refund, and the rest goes on waiting.
    assert [each[:2] for each in books(db, transfer(db, held_id)["root_id"])] == [
        (400, "completed"),
        (300, "pending"),
        (300, "reversal_pending"),
    ]
    with pytest.raises(psycopg.Error) as refused:
        call(db, "give_up", p_id=held_id, p_reason="it was refunded")
    assert refused.value.sqlstate == "ST002"


def test_a_person_leaves_the_rest_unpaid_and_may_change_his_mind(db: Database) -> None:
    held_id = held_slice(db)

    (ended,) = call(db, "give_up", p_id=held_id, p_reason="refunded in cash")
    assert (ended["status"], ended["failure_code"]) == ("permanently_failed", "given_up")
    (goes_on,) = call(db, "reopen", p_id=held_id, p_reason="it was not")

    assert (goes_on["successor_of"], goes_on["made_for"]) == (held_id, "rest:tr_1")
    assert claim_send_again(db, goes_on["id"])["action"] == "look_up_transfer"
    at_commit(db)


def test_found_for_more_the_parts_split_off_last_were_paid_and_are_taken_back(db: Database) -> None:
    transfer_id = create_transfer(db)["id"]
    ask(db, 200, "re_0")
    ask(db, 300)
    lose(db)

    assert find(db, transfer_id, amount=800)["verdict"] == "succeeded"

    assert books(db, transfer_id) == [
        (500, "completed", "tr_1", None),
        (200, "permanently_failed", None, "re_0"),
        (300, "permanently_failed", None, "re_1"),
        (300, "reversal_pending", "tr_1", "re_1"),
    ]
    assert request_lines(db) == [("key-1", 300, 300, 0)]
    looked = claim_again(db, family(db, transfer_id)[-1]["id"])
    assert record_one(db, seen(looked, amount=800))["verdict"] == "absent"


@pytest.mark.parametrize("amount", [600, 900, 1001])
def test_an_amount_that_no_split_explains_is_a_persons(db: Database, amount: int) -> None:
    transfer_id = create_transfer(db)["id"]
    ask(db, 200, "re_0")
    ask(db, 300)
    lose(db)

    assert find(db, transfer_id, amount=amount)["verdict"] == "mismatch"


def test_a_part_that_is_paid_by_itself_by_now_was_not_paid_with_it(db: Database) -> None:
    transfer_id = create_transfer(db)["id"]
    ask(db, 300)
    withdraw(db)
    lose(db)
    db.execute("update marketplace.seller_transfers set next_retry_at = '2999-01-01' where successor_of is not null")

    assert find(db, transfer_id, amount=1000)["verdict"] == "mismatch"
