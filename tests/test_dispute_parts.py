"""db/functions/ask_for_less.sql, act_on_dispute.sql: a dispute of which Stripe gives a part of the funds back.

Stripe says `lost` of it, and how much came back in its balance transactions alone. Hand-written throughout: 90 were
paid from a charge of 100, so what is gone of the charge costs the seller nine tenths of it.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from tests.support.databases import Database, row, rows, value
from tests.support.events import (
    Event,
    asked,
    by_events,
    dispute,
    event,
    failed,
    ingest,
    is_withdrawn,
    kept,
    moved,
    refund,
    refunded,
    requests,
    result,
    states,
)
from tests.support.transfers import (
    at_commit,
    call,
    claim,
    claim_sends,
    create_transfer,
    family,
    found_reversal,
    lapse_lease,
    look_up_report,
    make_due,
    nothing_found,
    record_one,
    record_transfer,
    refusal,
    request_lines,
    request_parts,
    success,
)
from tests.support.withdrawals import story
from tests.support.work import work

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    by_events(rolled_back_db)
    return rolled_back_db


def paid(db: Database, n: int = 1, amount: int = 90, **changes: Any) -> int:
    """Transfer number `n` of order-1 from a charge of 100; its id."""
    values: dict[str, Any] = {"p_order_id": "order-1", "p_source_charge": "ch_1", "p_charge_amount": 100}
    return int(record_transfer(db, n, p_amount=amount, **{**values, **changes})["id"])


def told(db: Database, what: str, dispute_id: str = "dp_1", **changes: Any) -> str:
    return result(db, event(f"charge.dispute.{what}", dispute(dispute_id, **changes)))


def taken(db: Database, dispute_id: str = "dp_1", amount: int = 100) -> None:
    assert told(db, "funds_withdrawn", dispute_id, amount=amount, balance_transactions=moved(-amount)) == "acted"


def came_back(db: Database, amount: int, dispute_id: str = "dp_1", of: int = 100, status: str = "lost") -> str:
    changes = {"status": status, "balance_transactions": moved(-of, amount)}
    return told(db, "funds_reinstated", dispute_id, amount=of, **changes)


def has(db: Database) -> dict[str, int]:
    """What each seller has: paid and not taken back."""
    found = rows(
        db,
        """
        select t.seller_id, coalesce(sum(t.amount) filter (where t.status = 'completed'), 0)::bigint as has
        from marketplace.seller_transfers as t
        where not exists (select from marketplace.seller_transfers as s where s.successor_of = t.id)
        group by t.seller_id
        """,
    )
    return {each["seller_id"]: each["has"] for each in found}


def test_a_part_that_comes_back_before_anything_was_sent_is_not_taken(db: Database) -> None:
    paid(db)
    taken(db)
    assert asked(db) == {"key-1": 90}

    assert came_back(db, 60) == "acted"

    assert asked(db) == {"key-1": 36}
    assert requests(db) == ["dp_1+2"]
    said = row(db, "select * from marketplace.reversal_requests where reversal_request_id = 'dp_1+2'")
    assert (said["reason"], said["asked_for"], said["replaces"], said["asked_of"]) == ("dispute", "dp_1", "dp_1", 40)
    assert work(db) == [("reversed", 36)]
    assert has(db) == {"seller-1": 54}
    at_commit(db)


def test_a_part_that_comes_back_after_all_was_reversed_is_sent_and_no_more_than_it(db: Database) -> None:
    paid(db)
    taken(db)
    assert work(db) == [("reversed", 90)]

    assert came_back(db, 60) == "acted"

    assert work(db) == [("sent", 54)]
    assert (asked(db), has(db)) == ({"key-1": 36}, {"seller-1": 54})
    assert story(db) == [
        (90, "reversed", None),
        (54, "completed", "compensates 1"),
        (36, "permanently_failed", None),
    ]
    for _ in range(3):
        assert came_back(db, 60) == "acted"
        taken(db)
        assert told(db, "closed", status="lost", balance_transactions=moved(-100, 60)) == "acted"
    assert work(db) == []
    assert rows(db, "select from marketplace.needs_attention where problem = 'unmet'") == []
    at_commit(db)


def test_a_reversal_under_way_is_settled_when_it_is_known_and_nothing_is_given_back_before(db: Database) -> None:
    for is_made in (True, False):
        with db.transaction(force_rollback=True):
            root = paid(db)
            taken(db)
            (leased,) = claim(db)
            assert came_back(db, 60) == "acted"
            assert claim_sends(db) == []
            if is_made:
                record_one(db, success(leased))
                assert work(db) == [("sent", 54)]
            else:
                # The worker died; a look-up finds nothing, now and when it has been quiet for long enough.
                lapse_lease(db, root)
                make_due(db, root)
                (look,) = claim(db)
                record_one(db, look_up_report(look))
                assert claim_sends(db) == []
                db.execute("update marketplace.seller_transfers set call_last_sent_at = now() - interval '2 h'")
                make_due(db, root)
                (look,) = claim(db)
                record_one(db, look_up_report(look))
                assert work(db) == [("reversed", 36)]
            assert (asked(db), has(db)) == ({"key-1": 36}, {"seller-1": 54})


def test_a_reversal_that_was_lost_and_is_found_is_given_back_but_for_what_remains(db: Database) -> None:
    root = paid(db)
    taken(db)
    (leased,) = claim(db)
    lapse_lease(db, root)
    assert came_back(db, 60) == "acted"
    make_due(db, root)
    (look,) = claim(db)
    record_one(db, look_up_report(look, found_reversal(leased)))
    assert work(db) == [("sent", 54)]
    assert has(db) == {"seller-1": 54}


@pytest.mark.parametrize("was_made", [True, False])
def test_what_may_have_been_taken_already_is_not_taken_from_other_money_meanwhile(db: Database, was_made: bool) -> None:
    root = paid(db)
    taken(db, amount=50)
    (look,) = claim(db)
    record_one(db, nothing_found(look))
    (leased,) = claim(db)
    assert (leased["action"], leased["amount"]) == ("reverse", 45)

    assert came_back(db, 20, of=50) == "acted"

    assert [(each["status"], each["amount"]) for each in family(db, root)] == [
        ("completed", 45),
        ("reversal_pending", 45),
    ]
    assert request_lines(db, "dp_1+2") == [("key-1", 27, 0, 27)]
    assert value(db, "select count(*) from marketplace.needs_attention") == 0
    record_one(db, success(leased) if was_made else refusal(leased))
    assert work(db) == [("sent", 18) if was_made else ("reversed", 27)]
    assert (has(db), asked(db)) == ({"seller-1": 63}, {"key-1": 27})
    assert request_lines(db, "dp_1+2") == [("key-1", 27, 27, 0)]
    at_commit(db)


def test_what_remains_shrinks_again_and_ends_with_all_of_it(db: Database) -> None:
    paid(db, 1)
    paid(db, 2, 8)
    taken(db)
    assert sorted(work(db)) == [("reversed", 8), ("reversed", 90)]

    assert came_back(db, 10) == "acted"
    assert sorted(work(db)) == [("sent", 1), ("sent", 9)]  # 7.2, so 7 of 8 stay asked
    assert came_back(db, 60) == "acted"
    assert sorted(work(db)) == [("sent", 4), ("sent", 45)]
    assert came_back(db, 30) == "acted"  # an older event
    assert work(db) == []
    assert has(db) == {"seller-1": 54, "seller-2": 5}
    assert told(db, "closed", status="won") == "acted"
    assert sorted(work(db)) == [("sent", 3), ("sent", 36)]
    assert (has(db), asked(db)) == ({"seller-1": 90, "seller-2": 8}, {})
    at_commit(db)


def test_of_a_dispute_of_half_only_what_came_back_moves(db: Database) -> None:
    paid(db)
    taken(db, amount=50)
    assert work(db) == [("reversed", 45)]
    assert came_back(db, 30, of=50) == "acted"
    assert work(db) == [("sent", 27)]
    assert (asked(db), has(db)) == ({"key-1": 18}, {"seller-1": 72})
    refunded(db, "re_1", 20)
    assert work(db) == [("reversed", 18)]
    assert came_back(db, 40, of=50) == "acted"
    assert work(db) == [("sent", 9)]
    assert has(db) == {"seller-1": 63}


def test_a_seller_who_was_not_paid_yet_is_paid_what_came_back(db: Database) -> None:
    create_transfer(db, 1, p_order_id="order-1", p_amount=90, p_source_charge="ch_1", p_charge_amount=100)
    taken(db)
    assert work(db) == []

    assert came_back(db, 60) == "acted"

    assert work(db) == [("sent", 54)]
    assert has(db) == {"seller-1": 54}


def test_every_order_of_the_transfer_gets_its_own_part_back_and_one_that_comes_later_gives_its_own(
    db: Database,
) -> None:
    paid(db, 1)
    paid(db, 2, 50, p_order_id="order-2")
    taken(db)
    work(db)

    assert came_back(db, 60) == "acted"
    paid(db, 3, 10)

    assert asked(db) == {"key-1": 36, "key-2": 20, "key-3": 4}
    assert sorted(work(db)) == [("reversed", 4), ("sent", 30), ("sent", 54)]
    assert has(db) == {"seller-1": 54, "seller-2": 30, "seller-3": 6}
    assert told(db, "closed", status="won") == "acted"
    work(db)
    assert has(db) == {"seller-1": 90, "seller-2": 50, "seller-3": 10}


@pytest.mark.parametrize(
    ("transactions", "words"),
    [
        ([], "it is not told how much"),
        (None, "it is not told how much"),
        (moved(-100), "it is not told how much"),
        (moved(-93, 91, currency="eur"), "it is not told how much"),
        ([{"amount": "60", "currency": "usd"}], "it is not told how much"),
        ([{"amount": 60}], "it is not told how much"),
        (["txn_1", "txn_2"], "it is not told how much"),
    ],
)
def test_where_nobody_says_how_much_came_back_nothing_is_given_back_and_a_person_may_say(
    db: Database, transactions: Any, words: str
) -> None:
    paid(db)
    taken(db)
    work(db)
    given = event("charge.dispute.funds_reinstated", dispute(status="lost", balance_transactions=transactions))
    came = ingest(db, given)
    assert (came["result"], words in came["detail"]) == ("kept", True)
    assert (asked(db), work(db)) == ({"key-1": 90}, [])
    typed = kept(db, given["id"])["next_step"]
    assert typed == "select * from marketplace.note_reinstated(p_dispute_id => 'dp_1', p_amount => …);"
    shown = value(db, "select next_step from marketplace.needs_attention_full where problem = 'event kept'")
    assert shown == typed

    db.execute(typed.replace("…", "60").encode())

    assert states(db)[given["id"]] == "acted"
    assert work(db) == [("sent", 54)]
    assert (asked(db), has(db)) == ({"key-1": 36}, {"seller-1": 54})


def test_an_event_that_says_it_later_is_as_good_as_a_person(db: Database) -> None:
    paid(db)
    taken(db)
    given = event("charge.dispute.funds_reinstated", dispute(status="lost"))
    for last, expected in (
        ({"status": "won"}, {}),
        ({"status": "lost", "balance_transactions": moved(-100, 60)}, {"key-1": 36}),
    ):
        with db.transaction(force_rollback=True):
            assert result(db, given) == "kept"
            assert told(db, "closed", **last) == "acted"
            assert set(states(db).values()) == {"acted"}
            assert asked(db) == expected


def test_a_person_says_what_came_back_once_and_of_a_dispute_that_is_known(db: Database) -> None:
    paid(db)
    taken(db)
    for amount, end in ((0, 90), (40, 54), (40, 54), (70, 27), (100, 0)):
        (said,) = call(db, "note_reinstated", p_dispute_id="dp_1", p_amount=amount)
        assert (said["remaining"], asked(db).get("key-1", 0)) == (100 - amount, end)
    assert is_withdrawn(db, "dp_1")
    for dispute_id, amount, sqlstate in (("dp_1", 99, "ST003"), ("dp_1", 101, "22023"), ("dp_2", 1, "22023")):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            call(db, "note_reinstated", p_dispute_id=dispute_id, p_amount=amount)
        assert refused.value.sqlstate == sqlstate
        assert refused.value.diag.message_hint
    with pytest.raises(psycopg.Error) as forged, db.transaction():
        db.execute("update marketplace.stripe_disputes set remaining = 1")
    assert forged.value.sqlstate == "ST002"


def test_what_the_app_asked_for_a_dispute_is_the_apps_to_give_back(db: Database) -> None:
    paid(db)
    request_parts(db, {"key-1": 90}, "dp_1", p_reason="dispute")
    taken(db)
    given = event("charge.dispute.funds_reinstated", dispute(status="lost", balance_transactions=moved(-100, 60)))
    came = ingest(db, given)
    assert (came["result"], "the app asked" in came["detail"]) == ("kept", True)
    assert asked(db) == {"key-1": 90}

    call(db, "withdraw_reversal_request", p_reversal_request_id="dp_1", p_reason="a part came back")
    request_parts(db, {"key-1": 30}, "dp_1-rest", p_reason="dispute")

    assert {each["result"] for each in call(db, "retry_events")} == {"acted"}
    assert asked(db) == {"key-1": 30}


def test_what_a_person_withdrew_stays_withdrawn_whatever_comes_back(db: Database) -> None:
    paid(db)
    taken(db)
    call(db, "withdraw_reversal_request", p_reversal_request_id="dp_1", p_reason="the platform bears it")
    assert told(db, "funds_reinstated", status="lost") == "acted"
    assert came_back(db, 60) == "acted"
    assert asked(db) == {}


def test_two_disputes_and_a_refund_of_one_charge_each_shrink_by_their_own(db: Database) -> None:
    paid(db)
    taken(db, "dp_1", 50)
    refunded(db, "re_1", 20)
    taken(db, "dp_2", 50)  # 120 of 100: the seller gives the whole, and no more
    assert asked(db) == {"key-1": 90}
    assert sum(amount for _, amount in work(db)) == 90

    assert came_back(db, 20, "dp_1", of=50) == "acted"  # 100 are gone
    assert (asked(db), work(db)) == ({"key-1": 90}, [])
    assert came_back(db, 30, "dp_2", of=50) == "acted"  # 70
    assert work(db) == [("sent", 27)]
    failed(db, "re_1", 20)  # 50
    assert sum(amount for _, amount in work(db)) == 18
    assert (asked(db), has(db)) == ({"key-1": 45}, {"seller-1": 45})
    assert told(db, "closed", "dp_2", amount=50, status="won") == "acted"
    work(db)
    assert (asked(db), has(db)) == ({"key-1": 27}, {"seller-1": 63})
    at_commit(db)


def tells(what: str, dispute_id: str, of: int, back: int | None = None, status: str = "lost") -> Event:
    amounts = [-of] if back is None else [-of, back]
    return event(f"charge.dispute.{what}", dispute(dispute_id, of, status, balance_transactions=moved(*amounts)))


def tells_refund(refund_id: str, amount: int, status: str = "succeeded") -> Event:
    return event("refund.updated", refund(refund_id, amount, status))


# What Stripe tells, each with the cause it is of and the most that may be gone of the charge for it from then on.
TOGETHER: dict[str, list[tuple[str, int, Event]]] = {
    "a dispute of all of a charge of which 60 were refunded": [
        ("dp_1", 100, tells("funds_withdrawn", "dp_1", 100)),
        ("dp_1", 40, tells("funds_reinstated", "dp_1", 100, 60)),
        ("re_1", 60, tells_refund("re_1", 60)),
        ("re_2", 0, tells_refund("re_2", 20, "failed")),
    ],
    "refunds made after a dispute was opened, one of which fails": [
        ("dp_1", 50, tells("funds_withdrawn", "dp_1", 50)),
        ("re_1", 20, tells_refund("re_1", 20)),
        ("re_2", 20, tells_refund("re_2", 20)),
        ("re_2", 0, tells_refund("re_2", 20, "failed")),
    ],
    "two disputes of one charge, one won in part and one in full": [
        ("dp_1", 70, tells("funds_withdrawn", "dp_1", 70)),
        ("dp_2", 70, tells("funds_withdrawn", "dp_2", 70)),
        ("dp_1", 30, tells("closed", "dp_1", 70, 40)),
        ("dp_2", 0, tells("closed", "dp_2", 70, status="won")),
    ],
    "a dispute that is lost in part, lost less, and beside it a refund": [
        ("dp_1", 100, tells("funds_withdrawn", "dp_1", 100)),
        ("dp_1", 80, tells("updated", "dp_1", 100, 20)),
        ("dp_1", 40, tells("closed", "dp_1", 100, 60)),
        ("re_1", 20, tells_refund("re_1", 20)),
    ],
}


def play(db: Database, left: Sequence[tuple[str, int, Event]], gone: dict[str, int], story: Sequence[str]) -> int:
    """All orders of what is left to tell; after each event all is done at Stripe, and the seller has what he should."""
    ends = 0 if left else 1
    for n, (cause, at_most, given) in enumerate(left):
        now = {**gone, cause: min(at_most, gone.get(cause, at_most))}
        path = [*story, f"{cause} {given['type']}"]
        with db.transaction(force_rollback=True):
            ingest(db, given)
            moves = work(db)
            expected = 90 - min(90, 9 * sum(now.values()) // 10)
            assert (path, has(db)) == (path, {"seller-1": expected}), moves
            # Nothing goes out and comes back for one event.
            assert len({what for what, _ in moves}) <= 1, (path, moves)
            ends += play(db, [*left[:n], *left[n + 1 :]], now, path)
    return ends


@pytest.mark.parametrize("name", TOGETHER)
def test_a_seller_gives_his_share_of_what_is_gone_in_every_order_of_events(db: Database, name: str) -> None:
    paid(db)
    assert play(db, TOGETHER[name], {}, []) == 24
