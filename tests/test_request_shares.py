"""db/functions/request_shares.sql: what became of each refund and dispute, seller by seller. Sums by hand."""

import pytest

from tests.support.databases import Database, rows
from tests.support.events import by_events, dispute, event, ingest, moved, refund
from tests.support.transfers import (
    call,
    claim,
    claimed_send,
    create_transfer,
    record_one,
    record_transfer,
    refusal,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
)
from tests.support.withdrawals import withdraw
from tests.support.work import work

pytest_plugins = ("tests.support.rolled_back",)

AMOUNTS = ("asked", "taken_back", "given_back", "not_sent", "under_way", "not_taken_back")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def shares(db: Database) -> dict[tuple[str, str], tuple[int, ...]]:
    """By request and seller: asked, taken back, given back, not sent, under way, not taken back."""
    found = rows(db, "select * from marketplace.request_shares")
    assert len({(each["request"], each["seller_id"]) for each in found}) == len(found)
    return {(each["request"], each["seller_id"]): tuple(each[name] for name in AMOUNTS) for each in found}


def why(db: Database, request: str = "re_1") -> str:
    (found,) = rows(db, "select why from marketplace.request_shares where request = %(request)s", request=request)
    return str(found["why"])


def of_two_sellers(db: Database) -> None:
    """An order of 1000 of each of two sellers, and one of somebody else's."""
    for n in (1, 2):
        record_transfer(db, n, p_order_id="order-1", p_seller_id=f"seller-{n}")
    record_transfer(db, 3)


def test_an_order_that_nobody_refunded_is_not_there(db: Database) -> None:
    of_two_sellers(db)
    assert shares(db) == {}


def test_each_seller_of_a_refund_has_a_line_of_its_own(db: Database) -> None:
    of_two_sellers(db)
    request_reversal(db)
    first, second = claim(db)
    record_one(db, success(first))
    assert shares(db) == {
        ("re_1", "seller-1"): (1000, 1000, 0, 0, 0, 0),
        ("re_1", "seller-2"): (1000, 0, 0, 0, 1000, 0),
    }
    record_one(db, refusal(second, 404, "resource_missing"))
    assert shares(db)["re_1", "seller-2"] == (1000, 0, 0, 0, 0, 1000)
    (line,) = rows(db, "select * from marketplace.request_shares where not_taken_back > 0")
    assert (line["order_id"], line["reason"], line["currency"]) == ("order-1", "refund", "usd")
    assert line["why"] == "given up: resource_missing"


def test_what_a_person_gave_up_is_not_taken_back_and_on_its_way_once_it_is_reopened(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 300})
    assert (shares(db), why(db)) == ({("re_1", "seller-1"): (300, 0, 0, 0, 300, 0)}, "under way: new")
    call(db, "give_up", p_id=part["id"], p_reason="not worth it")
    assert (shares(db), why(db)) == ({("re_1", "seller-1"): (300, 0, 0, 0, 0, 300)}, "given up: by a person")
    call(db, "reopen", p_id=part["id"], p_reason="it is, after all")
    assert shares(db) == {("re_1", "seller-1"): (300, 0, 0, 0, 300, 0)}


def test_what_was_not_sent_because_of_a_refund_was_never_the_sellers(db: Database) -> None:
    create_transfer(db)
    request_reversal(db, p_amount=400)
    assert (shares(db), why(db)) == ({("re_1", "seller-1"): (400, 0, 0, 400, 0, 0)}, "")


def test_what_is_in_flight_to_the_seller_is_under_way_until_that_is_known(db: Database) -> None:
    leased = claimed_send(db)
    request_reversal(db, p_amount=400)
    assert shares(db) == {("re_1", "seller-1"): (400, 0, 0, 0, 400, 0)}
    assert why(db) == "under way: it is not known yet whether the seller is paid"
    record_one(db, timeout(leased))
    assert shares(db) == {("re_1", "seller-1"): (400, 0, 0, 0, 400, 0)}


def test_what_is_in_flight_and_turns_out_to_be_paid_is_on_its_way_back(db: Database) -> None:
    leased = claimed_send(db)
    request_reversal(db, p_amount=400)
    record_one(db, sent(leased))
    assert (shares(db), why(db)) == ({("re_1", "seller-1"): (400, 0, 0, 0, 400, 0)}, "under way: new")


def test_more_than_the_seller_has_is_not_taken_back(db: Database) -> None:
    record_transfer(db)
    (dead,) = request_parts(db, {"key-1": 400})
    call(db, "give_up", p_id=dead["id"], p_reason="not now")
    request_reversal(db, p_reversal_request_id="re_2")  # all of 1000, and cannot have those 400
    assert shares(db) == {
        ("re_1", "seller-1"): (400, 0, 0, 0, 0, 400),
        ("re_2", "seller-1"): (1000, 0, 0, 0, 600, 400),
    }
    assert why(db, "re_2") == "asked for, and not to be had; under way: new"


def test_what_was_taken_for_a_refund_that_failed_is_given_back(db: Database) -> None:
    of_two_sellers(db)
    request_reversal(db)
    first, second = claim(db)
    record_one(db, success(first))
    record_one(db, refusal(second, 400, "balance_insufficient"))
    withdraw(db)
    # The second is settled by a successor, which nobody asks anything of.
    assert shares(db) == {
        ("re_1", "seller-1"): (1000, 1000, 1000, 0, 0, 0),
        ("re_1", "seller-2"): (1000, 0, 0, 0, 0, 0),
    }
    said = rows(db, "select distinct why from marketplace.request_shares")
    assert said == [{"why": "withdrawn: the refund failed"}]


def test_what_events_ask_for_later_is_of_the_same_refund(db: Database) -> None:
    by_events(db)
    values = {"p_order_id": "order-1", "p_amount": 90, "p_source_charge": "ch_1"}
    record_transfer(db, 1, p_seller_id="seller-1", p_charge_amount=200, **values)
    ingest(db, event("refund.created", refund("re_1", 100)))
    record_transfer(db, 2, p_seller_id="seller-2", **values)
    assert {each["reversal_request_id"] for each in rows(db, "select * from marketplace.reversal_requests")} == {
        "re_1",
        "re_1+2",
    }
    assert shares(db) == {
        ("re_1", "seller-1"): (45, 0, 0, 0, 45, 0),
        ("re_1", "seller-2"): (45, 0, 0, 0, 45, 0),
    }


def test_a_dispute_says_what_it_took_of_each_seller_and_what_the_marketplace_bears(db: Database) -> None:
    by_events(db)
    for n, amount in ((1, 60), (2, 30)):
        record_transfer(
            db,
            n,
            p_order_id="order-1",
            p_seller_id=f"seller-{n}",
            p_amount=amount,
            p_source_charge="ch_1",
            p_charge_amount=100,
        )
    ingest(db, event("charge.dispute.funds_withdrawn", dispute("dp_1", 100)))
    first, second = claim(db)
    record_one(db, success(first))
    record_one(db, refusal(second, 404, "resource_missing"))
    assert shares(db) == {
        ("dp_1", "seller-1"): (60, 60, 0, 0, 0, 0),
        ("dp_1", "seller-2"): (30, 0, 0, 0, 0, 30),
    }
    (cost,) = rows(
        db,
        "select d.amount, sum(s.taken_back - s.given_back)::bigint as from_sellers"
        " from marketplace.stripe_disputes as d"
        " inner join marketplace.request_shares as s on s.request = d.dispute_id group by d.dispute_id, d.amount",
    )
    assert (cost["amount"], cost["from_sellers"]) == (100, 60)


def of_one_dispute(db: Database) -> None:
    """90 were paid of a charge of 100, all of which a bank took."""
    by_events(db)
    record_transfer(db, p_order_id="order-1", p_amount=90, p_source_charge="ch_1", p_charge_amount=100)
    ingest(db, event("charge.dispute.funds_withdrawn", dispute("dp_1", 100)))


def gives_back(db: Database, amount: int) -> None:
    lost = dispute("dp_1", 100, "lost", balance_transactions=moved(-100, amount))
    ingest(db, event("charge.dispute.funds_reinstated", lost))


def test_what_comes_back_of_a_dispute_after_the_reversal_is_given_back_and_was_asked_once(db: Database) -> None:
    of_one_dispute(db)
    assert work(db) == [("reversed", 90)]
    assert shares(db) == {("dp_1", "seller-1"): (90, 90, 0, 0, 0, 0)}
    gives_back(db, 60)
    for sends in ([("sent", 54)], []):
        # 40 are gone for good, nine tenths of them the seller's: 90 taken, 54 given back.
        assert shares(db) == {("dp_1", "seller-1"): (36, 90, 54, 0, 0, 0)}
        assert why(db, "dp_1") == "withdrawn: asked again for less: a part of dispute dp_1 came back"
        assert work(db) == sends
    gives_back(db, 80)
    assert shares(db) == {("dp_1", "seller-1"): (18, 90, 72, 0, 0, 0)}
    ingest(db, event("charge.dispute.closed", dispute("dp_1", 100, status="won")))
    assert shares(db) == {("dp_1", "seller-1"): (18, 90, 90, 0, 0, 0)}


def test_what_comes_back_of_a_dispute_before_the_reversal_is_not_asked_at_all(db: Database) -> None:
    of_one_dispute(db)
    gives_back(db, 60)
    assert shares(db) == {("dp_1", "seller-1"): (36, 0, 0, 0, 36, 0)}
    assert work(db) == [("reversed", 36)]
    assert shares(db) == {("dp_1", "seller-1"): (36, 36, 0, 0, 0, 0)}


def test_what_remains_of_a_dispute_is_a_part_of_the_reversal_under_way_and_nothing_to_settle_by_hand(
    db: Database,
) -> None:
    of_one_dispute(db)
    (leased,) = claim(db)
    gives_back(db, 60)
    assert shares(db) == {("dp_1", "seller-1"): (36, 0, 0, 0, 90, 0)}
    assert "it waits for what a withdrawn request may have reversed" in why(db, "dp_1")
    # It is asked of what is on its way back: no more than is left of the transfer.
    assert rows(db, "select why from marketplace.needs_attention_full") == []
    record_one(db, success(leased))
    assert shares(db) == {("dp_1", "seller-1"): (36, 90, 54, 0, 0, 0)}


def test_what_another_refund_keeps_of_what_was_given_back_was_given_back_and_not_sent(db: Database) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 400})
    assert work(db) == [("reversed", 400)]
    withdraw(db)
    request_parts(db, {"key-1": 300}, "re_2")
    assert shares(db) == {
        ("re_1", "seller-1"): (400, 400, 400, 0, 0, 0),
        ("re_2", "seller-1"): (300, 0, 0, 300, 0, 0),
    }


def test_what_was_to_be_given_back_and_could_not_is_not_given_back(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    assert work(db) == [("reversed", 1000)]
    withdraw(db)
    (again,) = rows(db, "select id from marketplace.seller_transfers where compensates is not null")
    call(db, "give_up", p_id=again["id"], p_reason="the seller has left")
    assert shares(db) == {("re_1", "seller-1"): (1000, 1000, 0, 0, 0, 0)}
    assert why(db) == "not given back: given_up; withdrawn: the refund failed"
