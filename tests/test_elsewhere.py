"""Reversals that Stripe tells of: ours are told by their metadata, the others are looked up and never called for."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows, value
from tests.support.events import asked, by_events, event, ingest, refund, refunded
from tests.support.evidence import shown_reversed, tell
from tests.support.failovers import pass_since_failover
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.stripe_lists import reversal_mark
from tests.support.transfers import (
    at_commit,
    attempts,
    call,
    claim,
    claim_again,
    claim_send_again,
    claim_sends,
    claimed_call,
    claimed_send,
    contents,
    create_transfer,
    record_one,
    record_transfer,
    refusal,
    request_lines,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
    transfer,
    transfer_object,
    transfers_found,
)
from tests.support.withdrawals import follow_up, story, withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def not_yet(db: Database, told: dict[str, object]) -> bool:
    """Whether the event has to be tried again; then it has changed nothing."""
    before = contents(db)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        tell(db, "reversed", told)
    assert refused.value.diag.message_hint
    assert contents(db) == before
    return refused.value.sqlstate == "ST010"


def test_what_was_reversed_elsewhere_is_looked_up_and_then_believed(db: Database) -> None:
    paid = record_transfer(db)
    told = shown_reversed(paid, 300, foreign(paid, "trr_f", 300))

    assert tell(db, "reversed", told) == "acted: 300 of tr_1 were reversed elsewhere; looked up as elsewhere:tr_1:300"

    at_commit(db)
    assert story(db) == [(700, "completed", None), (300, "reversal_pending", None)]
    request = rows(db, "select * from marketplace.reversal_requests")[0]
    assert (request["reason"], request["is_evidence"], request["is_whole"]) == ("manual", True, False)
    (looked,) = claim(db)
    assert (looked["action"], looked["amount"]) == ("look_up_reversals", 300)
    record_one(db, seen(looked, foreign(paid, "trr_f", 300)))
    follow_up(db, looked["id"])
    at_commit(db)
    assert story(db) == [(700, "completed", None), (300, "reversed", None)]
    held = transfer(db, looked["id"])
    assert (held["stripe_reversal_id"], held["failure_message"]) == (None, "Reversed elsewhere: trr_f (300)")
    assert tell(db, "reversed", told) == "nothing to do: what is reversed of tr_1 is known"
    # And the rest goes back like any other: what is left is all of it.
    (rest,) = request_reversal(db)
    record_one(db, seen(claim_again(db, rest["id"]), foreign(paid, "trr_f", 300)))
    (post,) = claim(db)
    assert (post["action"], post["amount"]) == ("reverse", 700)


def test_what_the_look_up_does_not_find_has_not_happened(db: Database) -> None:
    paid = record_transfer(db)
    told = shown_reversed(paid, 300)
    tell(db, "reversed", told)

    (looked,) = claim(db)
    record_one(db, seen(looked))
    follow_up(db, looked["id"])

    at_commit(db)
    assert story(db) == [(700, "completed", None), (300, "permanently_failed", None), (300, "completed", "succeeds 2")]
    assert transfer(db, looked["id"])["failure_code"] == "not_reversed"
    assert claim(db) == []
    assert tell(db, "reversed", told) == "nothing to do: what is reversed of tr_1 is known"


def test_what_a_refund_had_then_is_adopted_when_the_refund_has_failed(db: Database) -> None:
    leased = claimed_send(db)
    request_parts(db, {"key-1": 200})
    record_one(db, timeout(leased))
    looked = claim_send_again(db, leased["id"])
    record_one(db, transfers_found(looked, transfer_object(looked, amount_reversed=1000)))
    assert story(db) == [(800, "reversal_pending", None), (200, "reversal_pending", None)]
    withdraw(db)
    paid = transfer(db, leased["id"])
    told = shown_reversed(paid, 1000, foreign(paid, "trr_f", 1000))

    assert not_yet(db, told)
    record_one(db, seen(claim_again(db, paid["id"]), foreign(paid, "trr_f", 1000)))
    assert (
        tell(db, "reversed", told) == "acted: 200 of tr_1 were reversed elsewhere; looked up as elsewhere:tr_1:1000:2"
    )

    (rest,) = claim(db)
    record_one(db, seen(rest, foreign(paid, "trr_f", 1000)))
    at_commit(db)
    assert story(db) == [(800, "reversed", None), (200, "permanently_failed", None), (200, "reversed", "succeeds 2")]
    assert tell(db, "reversed", told) == "nothing to do: what is reversed of tr_1 is known"


def test_less_than_was_told_is_believed_as_far_as_it_is_seen(db: Database) -> None:
    paid = record_transfer(db)
    tell(db, "reversed", shown_reversed(paid, 300))

    (looked,) = claim(db)
    record_one(db, seen(looked, foreign(paid, "trr_f", 100)))
    follow_up(db, looked["id"])

    at_commit(db)
    assert story(db) == [
        (700, "completed", None),
        (200, "permanently_failed", None),
        (100, "reversed", None),
        (200, "completed", "succeeds 2"),
    ]


def test_it_is_never_called_for_whatever_the_look_ups_say(db: Database) -> None:
    paid = record_transfer(db)
    tell(db, "reversed", shown_reversed(paid, 1000))
    (looked,) = claim(db)
    for facts in (timeout, lambda each: refusal(each, 429, "rate_limit"), lambda each: refusal(each, 500)):
        record_one(db, facts(looked))
        looked = claim_again(db, looked["id"])
        assert looked["action"] == "look_up_reversals"


def test_one_that_is_pending_at_stripe_is_waited_for(db: Database) -> None:
    paid = record_transfer(db)
    tell(db, "reversed", shown_reversed(paid, 300))
    (looked,) = claim(db)

    pending = foreign(looked, "trr_x", 300, status="pending")
    assert record_one(db, seen(looked, pending, amount_reversed=0))["verdict"] == "unclear"

    again = claim_again(db, looked["id"])
    assert again["action"] == "look_up_reversals"
    assert record_one(db, seen(again, foreign(again, "trr_x", 300)))["status"] == "reversed"


def test_what_was_taken_of_a_row_that_had_ended_takes_nothing_else(db: Database) -> None:
    dead = transfer(db, ended(db))

    assert tell(db, "reversed", shown_reversed(dead, 1000)) == "nothing to do: what is reversed of tr_1 is known"

    assert story(db) == [(1000, "permanently_failed", None)]
    assert claim(db) == []


def test_ours_is_no_reversal_made_elsewhere(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased))
    told = shown_reversed(leased, 1000, ours(db, transfer(db, leased["id"])))

    assert tell(db, "reversed", told) == "nothing to do: what is reversed of tr_1 is known"
    # Without metadata it is known by its id; not listed at all, by what our rows come to.
    assert tell(db, "reversed", shown_reversed(leased, 1000, foreign(leased, "trr_1", 1000))).startswith("nothing")
    assert tell(db, "reversed", shown_reversed(leased, 1000)).startswith("nothing")


@pytest.mark.parametrize("reversed_elsewhere", [0, 300])
def test_while_a_row_of_the_transfer_is_under_way_the_event_waits(db: Database, reversed_elsewhere: int) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    looked = claim_again(db, part["id"])
    told = shown_reversed(looked, 400 + reversed_elsewhere, ours(db, part, amount=400))

    assert not_yet(db, told)
    record_one(db, seen(looked))
    posted = claim_again(db, part["id"])
    assert not_yet(db, told)
    record_one(db, success(posted))

    said = tell(db, "reversed", told)
    if reversed_elsewhere:
        assert said.startswith("acted: 300 of tr_1 were reversed elsewhere")
    else:
        assert said.startswith("nothing to do")


def test_ours_that_a_restore_lost_waits_for_the_app_to_ask_again(db: Database) -> None:
    paid = record_transfer(db)
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db)}
    told = shown_reversed(paid, 300, lost)
    assert not_yet(db, told)

    request_parts(db, {"key-1": 300})
    (looked,) = claim(db)
    record_one(db, seen(looked, lost))

    assert tell(db, "reversed", told) == "nothing to do: what is reversed of tr_1 is known"
    assert story(db) == [(700, "completed", None), (300, "reversed", None)]


def test_ours_that_was_lost_and_is_counted_as_made_elsewhere_holds_up_nothing(db: Database) -> None:
    leased = claimed_call(db, p_amount=300)
    lost = {**foreign(leased, "trr_lost", 300), "metadata": reversal_mark(db, request="re_lost")}
    record_one(db, refusal(leased, 400, None, "The transfer tr_1 is already fully reversed."))
    record_one(db, seen(claim_again(db, leased["id"]), lost, amount=300))
    paid = transfer(db, leased["id"])
    assert paid["status"] == "reversed"
    assert not tell(db, "reversed", shown_reversed(paid, 301, lost)).startswith("kept")


def test_ours_that_was_lost_with_the_send_is_found_by_who_asks_again(db: Database) -> None:
    """A standby knows of the send alone; what was taken back since is taken back once, and counted once."""
    create_transfer(db)
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "3 hours")
    (looked,) = claim_sends(db)
    record_one(db, transfers_found(looked, transfer_object(looked, "tr_1", amount_reversed=700)))
    assert story(db) == [(1000, "completed", None)]
    lost = {**foreign(transfer(db, looked["id"]), "trr_lost", 700), "metadata": reversal_mark(db)}

    request_parts(db, {"key-1": 700})
    (looked,) = claim(db)
    record_one(db, seen(looked, lost))

    at_commit(db)
    assert story(db) == [(300, "completed", None), (700, "reversed", None)]
    assert transfer(db, looked["id"])["stripe_reversal_id"] == "trr_lost"


def test_ours_that_was_lost_is_no_evidence_of_what_others_made(db: Database) -> None:
    """An event lists the ten newest; a look-up sees them all."""
    paid = record_transfer(db)
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db)}
    by_hand = foreign(paid, "trr_hand", 200)
    tell(db, "reversed", shown_reversed(paid, 500))
    (looked,) = claim(db)
    record_one(db, seen(looked, lost, by_hand))

    at_commit(db)
    counted = "select amount, failure_message from marketplace.seller_transfers where status = 'reversed' order by id"
    assert [tuple(each.values()) for each in rows(db, counted)] == [(200, "Reversed elsewhere: trr_hand (200)")]


def test_ours_that_was_lost_is_not_given_back_for_another_request(db: Database) -> None:
    """Lost: re_1 was withdrawn, and 300 taken back for re_2. The app says both again, and a look-up comes between."""
    paid = record_transfer(db)
    request_reversal(db)
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "3 hours")
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db, request="re_2")}

    withdraw(db)
    record_one(db, seen(claim(db)[0], lost))
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]
    request_parts(db, {"key-1": 300}, "re_2")
    record_one(db, seen(claim(db)[0], lost))

    at_commit(db)
    assert story(db)[1:] == [(700, "completed", "succeeds 1"), (300, "reversed", None)]
    assert claim_sends(db) == []


@pytest.mark.parametrize(("request_id", "part"), [("re_1", 2), ("re_2", 1)])
def test_ours_that_was_lost_is_given_back_for_a_withdrawn_request(db: Database, request_id: str, part: int) -> None:
    """Of the same request, whose parts had other numbers, or of one for which nothing was left when it came again."""
    paid = record_transfer(db)
    request_reversal(db)
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "3 hours")
    withdraw(db)
    request_reversal(db, p_reversal_request_id="re_2")
    withdraw(db, request="re_2")

    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db, request=request_id, part=part)}
    record_one(db, seen(claim(db)[0], lost))

    assert (300, "reversed", None) in story(db)
    assert [each["amount"] for each in claim_sends(db)] == [300]


def test_ours_that_was_lost_is_waited_for_before_it_counts_as_made_elsewhere(db: Database) -> None:
    """Its request may come again, or the one that stands in its way be withdrawn again: soon, or not at all."""
    paid = record_transfer(db)
    (part,) = request_parts(db, {"key-1": 800})
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "10 min")
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db, request="re_2")}

    assert record_one(db, seen(claim(db)[0], lost))["verdict"] == "unclear"
    pass_since_failover(db, "1 hour")
    assert record_one(db, seen(claim_again(db, part["id"]), lost))["verdict"] == "already_reversed"
    assert (100, "reversed", None) in story(db)


def test_ours_that_was_lost_under_another_number_is_not_taken_back_again(db: Database) -> None:
    """The lost history heard of the refund before the transfer: its share was asked by a second request."""
    by_events(db)
    paid = record_transfer(db, p_source_charge="ch_1", p_charge_amount=1000)
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "3 hours")
    ingest(db, event("refund.updated", refund("re_1", 500)))

    lost = {**foreign(paid, "trr_lost", 500), "metadata": reversal_mark(db, request="re_1+2")}
    (looked,) = claim(db)
    assert record_one(db, seen(looked, lost))["verdict"] == "mismatch"
    assert claim(db) == []

    call(db, "mark_reversed", p_id=looked["id"], p_stripe_reversal_id="trr_lost", p_reason="that is its share")
    at_commit(db)
    assert story(db) == [(500, "completed", None), (500, "reversed", None)]


@pytest.mark.parametrize(
    "said", [{"p_amount": 300}, {"p_allocation": Jsonb([{"transfer_key": "key-1", "amount": 300}])}]
)
@pytest.mark.parametrize("was_reversed", [True, False])
def test_what_was_lost_is_looked_for_where_the_app_says_the_withdrawal_before_the_request(
    db: Database, said: dict[str, Any], was_reversed: bool
) -> None:
    paid = record_transfer(db)
    call(db, "look_up_first", p_reason="a standby was promoted")
    pass_since_failover(db, "3 hours")
    withdraw(db, request="re_1")
    assert [each["amount"] for each in request_reversal(db, **said)] == [300]
    assert request_reversal(db, **said)[0]["status"] == "reversal_pending"
    assert request_lines(db) == [("key-1", 300, 300, 0)]

    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db)}
    record_one(db, seen(looked, lost) if was_reversed else seen(looked))

    at_commit(db)
    given_back = rows(db, "select amount, status from marketplace.seller_transfers where compensates is not null")
    assert given_back == ([{"amount": 300, "status": "pending"}] if was_reversed else [])
    assert claim(db) == []
    assert value(db, "select count(*) from marketplace.needs_attention where problem <> 'commits lost'") == 0


def test_a_withdrawal_before_its_request_takes_nothing_if_nothing_was_lost_or_less_is_left(
    db: Database,
) -> None:
    record_transfer(db)
    withdraw(db, request="re_1")
    assert request_reversal(db, p_amount=300) == []
    call(db, "look_up_first", p_reason="a standby was promoted")
    withdraw(db, request="re_2")
    assert request_reversal(db, p_reversal_request_id="re_2", p_amount=3000) == []
    withdraw(db, request="re_3")
    assert [each["amount"] for each in request_reversal(db, p_reversal_request_id="re_3")] == [1000]


def test_ours_that_was_counted_as_made_elsewhere_is_used_up_there(db: Database) -> None:
    paid = record_transfer(db)
    (slice_,) = request_parts(db, {"key-1": 800})
    lost = {**foreign(paid, "trr_lost", 300), "metadata": reversal_mark(db, request="re_lost")}
    record_one(db, seen(claim(db)[0], lost))
    assert (100, "reversed", None) in story(db)
    call(db, "give_up", p_id=slice_["id"], p_reason="for now")

    tell(db, "reversed", shown_reversed(paid, 400))
    (looked,) = claim(db)
    record_one(db, seen(looked, lost, foreign(paid, "trr_hand", 100)))

    at_commit(db)
    counted = "select sum(amount) from marketplace.seller_transfers where status = 'reversed'"
    assert value(db, counted) == 300


def test_what_is_not_listed_may_be_what_is_under_way(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    told = shown_reversed(part, 400)

    assert not_yet(db, told)
    record_one(db, seen(claim_again(db, part["id"])))
    record_one(db, timeout(claim_again(db, part["id"])))
    assert not_yet(db, told)
    record_one(db, seen(claim_again(db, part["id"]), ours(db, part, amount=400)))

    assert tell(db, "reversed", told).startswith("nothing to do")
    assert story(db) == [(600, "completed", None), (400, "reversed", None)]


def test_ours_that_is_open_is_looked_up_at_once(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, code="balance_insufficient"))
    assert claim(db) == []

    said = tell(db, "reversed", shown_reversed(leased, 1000, ours(db, leased)))

    assert said == f"acted: trr_1 is looked up for transfer {leased['id']}"
    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    assert record_one(db, seen(looked, ours(db, looked)))["status"] == "reversed"


def test_one_look_that_finds_nothing_of_ours_does_not_disprove_an_event(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 hours")
    tell(db, "reversed", shown_reversed(leased, 1000, ours(db, leased)))

    (looked,) = claim(db)
    record_one(db, seen(looked))

    assert transfer(db, leased["id"])["call_unknown"] is True


def ended(db: Database) -> int:
    leased = claimed_call(db)
    assert record_one(db, refusal(leased, 404, "resource_missing"))["status"] == "permanently_failed"
    return int(leased["id"])


def test_ours_of_a_row_that_had_ended_goes_on_in_a_successor(db: Database) -> None:
    dead = transfer(db, ended(db))
    told = shown_reversed(dead, 1000, ours(db, dead))

    assert tell(db, "reversed", told) == f"acted: transfer {dead['id']} had ended and was reversed by trr_1"

    at_commit(db)
    assert story(db) == [(1000, "permanently_failed", None), (1000, "reversal_pending", "succeeds 1")]
    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    assert record_one(db, seen(looked, ours(db, looked)))["status"] == "reversed"
    assert tell(db, "reversed", told).startswith("nothing to do")


def test_ours_of_a_row_that_another_took_over_is_shown_to_a_person(db: Database) -> None:
    dead = transfer(db, ended(db))
    withdraw(db)
    told = shown_reversed(dead, 1000, ours(db, dead))

    for _ in range(2):
        assert tell(db, "reversed", told).startswith("acted")

    late = [each for each in attempts(db, dead["id"]) if each["verdict"] == "late_success"]
    assert [(each["stripe_object_id"], each["disposition"]) for each in late] == [("trr_1", "late")]
    assert story(db) == [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]
    (shown,) = call(db, "read_open_reversals")
    assert (shown["reason"], shown["needs_a_person"]) == ("late_success", True)


def test_a_second_one_of_ours_is_shown_to_a_person(db: Database) -> None:
    record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    record_one(db, seen(claim_again(db, part["id"])))
    leased = claim_again(db, part["id"])
    record_one(db, success(leased))
    first, second = (ours(db, transfer(db, part["id"]), name, amount=400) for name in ("trr_1", "trr_2"))

    said = tell(db, "reversed", shown_reversed(leased, 800, second, first))

    assert said.startswith(f"acted: transfer {part['id']} was reversed twice, by trr_2 as well")
    assert attempts(db, part["id"])[-1]["verdict"] == "moved_twice"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_one_of_ours_that_failed_proves_nothing(db: Database, status: str) -> None:
    dead = transfer(db, ended(db))
    assert tell(db, "reversed", shown_reversed(dead, 0, ours(db, dead, status=status))).startswith("nothing to do")
    assert story(db) == [(1000, "permanently_failed", None)]


def test_an_older_event_takes_nothing(db: Database) -> None:
    paid = record_transfer(db)
    (part,) = request_parts(db, {"key-1": 400})
    record_one(db, seen(claim_again(db, part["id"])))
    record_one(db, success(claim_again(db, part["id"])))
    before = contents(db)

    assert tell(db, "reversed", shown_reversed(paid, 300)) == "nothing to do: what is reversed of tr_1 is known"

    assert contents(db) == before


def test_what_is_nobodys_here_is_left_alone(db: Database) -> None:
    paid = record_transfer(db)
    before = contents(db)
    for told in (
        shown_reversed({**paid, "stripe_transfer_id": "tr_of_others"}, 300),
        {**shown_reversed(paid, 300), "id": "ch_1"},
        {**shown_reversed(paid, 300), "id": None},
        {**shown_reversed(paid, 300), "amount_reversed": "300"},
        {**shown_reversed(paid, 300), "amount_reversed": None},
        {},
    ):
        assert tell(db, "reversed", told).startswith("nothing to do")
    assert contents(db) == before


def test_what_is_listed_wrongly_is_not_read(db: Database) -> None:
    paid = record_transfer(db)
    nonsense: list[Any] = [None, [], "", {"data": None}, {"data": {}}, {"data": [None, 1, "x", {}, {"id": "trr_"}]}]
    for listed in nonsense:
        told = {**shown_reversed(paid, 0), "reversals": listed}
        assert tell(db, "reversed", told).startswith("nothing to do")


def test_more_than_is_paid_and_free_is_taken_as_far_as_it_goes(db: Database) -> None:
    paid = record_transfer(db)
    assert tell(db, "reversed", shown_reversed(paid, 5000)).startswith("acted: 1000 of tr_1")
    at_commit(db)
    assert story(db) == [(1000, "reversal_pending", None)]


def test_a_newborn_of_the_order_is_not_taken_for_evidence(db: Database) -> None:
    tell(db, "reversed", shown_reversed(record_transfer(db), 1000))
    assert record_transfer(db, 2, p_order_id="order-1")["status"] == "completed"
    assert create_transfer(db, 3, p_order_id="order-1")["status"] == "pending"


def test_what_was_not_reversed_elsewhere_goes_to_the_refund_that_wanted_it(db: Database) -> None:
    paid = record_transfer(db)
    tell(db, "reversed", shown_reversed(paid, 300))
    request_reversal(db)
    looked = next(each for each in claim(db) if each["amount"] == 300)
    record_one(db, seen(looked))
    follow_up(db, looked["id"])

    at_commit(db)
    assert story(db) == [
        (700, "reversal_pending", None),
        (300, "permanently_failed", None),
        (300, "reversal_pending", "succeeds 2"),
    ]
    assert value(db, "select count(*) from marketplace.seller_transfers where reversal_request_id = 're_1'") == 2


@pytest.mark.parametrize("known_by", ["record_completed_transfer", "reopen", "an outcome"])
def test_what_was_reversed_before_a_row_stood_for_the_transfer_is_heard_again(db: Database, known_by: str) -> None:
    stripe_transfer = {
        "id": "tr_1",
        "object": "transfer",
        "amount": 1000,
        "amount_reversed": 300,
        "currency": "usd",
        "destination": "acct_1",
        "metadata": {},
        "reversals": {"object": "list", "has_more": False, "data": []},
    }
    leased = claimed_send(db) if known_by == "an outcome" else None
    row_id = record_transfer(db, p_stripe_transfer_id=None)["id"] if known_by == "reopen" else None
    assert ingest(db, event("transfer.reversed", stripe_transfer))["result"] == "ignored"

    if leased:
        record_one(db, sent(leased))
    elif row_id:
        call(db, "reopen", p_id=row_id, p_reason="found it", p_stripe_transfer_id="tr_1")
    else:
        record_transfer(db)
    call(db, "retry_events")

    at_commit(db)
    assert story(db) == [(700, "completed", None), (300, "reversal_pending", None)]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_was_reversed_while_it_was_given_up_is_heard_again_when_it_is_the_sellers(
    db: Database, is_reopened: bool
) -> None:
    row = record_transfer(db)
    request_reversal(db)
    call(db, "give_up", p_id=row["id"], p_reason="ticket 42")
    assert ingest(db, event("transfer.reversed", shown_reversed(row, 1000)))["result"] == "ignored"
    if is_reopened:
        call(db, "reopen", p_id=row["id"], p_reason="ticket 43")
    before = value(db, "select clock_timestamp()")
    withdraw(db)
    assert story(db)[-1][1] == "completed"
    # Something for people from now on, and not since it came in.
    assert value(db, "select kept_since from marketplace.kept_events") > before

    call(db, "retry_events")

    at_commit(db)
    (looked,) = claim(db)
    assert (looked["action"], looked["amount"]) == ("look_up_reversals", 1000)
    assert record_one(db, seen(looked, foreign(looked, "trr_f", 1000)))["status"] == "reversed"
    at_commit(db)


@pytest.mark.parametrize("is_reopened", [False, True])
def test_one_of_ours_that_has_failed_since_is_no_late_success_when_it_is_heard_again(
    db: Database, is_reopened: bool
) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, status="pending"))
    held = ours(db, transfer(db, leased["id"]), status="pending")
    came = ingest(db, event("transfer.reversed", shown_reversed(leased, 1000, held)))
    looked = claim_again(db, leased["id"])
    assert record_one(db, seen(looked, {**held, "status": "failed"}))["verdict"] == "insufficient_balance"
    call(db, "give_up", p_id=leased["id"], p_reason="ticket 42")
    if is_reopened:
        call(db, "reopen", p_id=leased["id"], p_reason="ticket 43")
    withdraw(db)

    assert [each["event_id"] for each in call(db, "retry_events")] == [came["event_id"]]

    at_commit(db)
    assert [each[1] for each in story(db)] == ["permanently_failed"] * (1 + is_reopened) + ["completed"]
    assert not rows(db, "select from marketplace.transfer_attempts where verdict = 'late_success'")


def test_what_was_reversed_is_heard_again_for_each_part_that_is_given_the_id(db: Database) -> None:
    root = record_transfer(db, p_stripe_transfer_id=None)
    request_parts(db, {"key-1": 400})
    assert claim(db) == []
    told = {**shown_reversed(root, 1000), "id": "tr_1"}
    assert ingest(db, event("transfer.reversed", told))["result"] == "ignored"
    call(db, "reopen", p_id=root["id"], p_reason="found it", p_stripe_transfer_id="tr_1")
    call(db, "retry_events")
    assert story(db)[0] == (600, "reversal_pending", None)
    looked = claim_again(db, root["id"])
    record_one(db, seen(looked, foreign(looked, "trr_f", 1000)))
    withdraw(db)
    (rest,) = rows(db, "select id from marketplace.seller_transfers where status = 'completed'")

    call(db, "reopen", p_id=rest["id"], p_reason="found it", p_stripe_transfer_id="tr_1")
    call(db, "retry_events")

    looked = claim_again(db, rest["id"])
    record_one(db, seen(looked, foreign(looked, "trr_f", 1000)))
    at_commit(db)
    assert story(db) == [(600, "reversed", None), (400, "permanently_failed", None), (400, "reversed", "succeeds 2")]


@pytest.mark.parametrize("is_found", [True, False])
def test_what_was_reversed_elsewhere_is_not_taken_again_for_the_refund_it_was_of(db: Database, is_found: bool) -> None:
    by_events(db)
    paid = record_transfer(db, p_amount=90, p_source_charge="ch_1", p_charge_amount=100)
    by_hand = foreign(paid, "trr_f", 45)
    tell(db, "reversed", shown_reversed(paid, 45, by_hand))

    came = refunded(db, "re_1", 50)
    assert (came["result"], "is looked up" in came["detail"]) == ("kept", True)
    (looked,) = claim(db)
    record_one(db, seen(looked, by_hand) if is_found else seen(looked))
    follow_up(db, looked["id"])
    assert [each["result"] for each in call(db, "retry_events")] == ["acted"]

    assert asked(db) == ({} if is_found else {"key-1": 45})
    refunded(db, "re_2", 50)
    assert asked(db) == {"key-1": 45 if is_found else 90}
