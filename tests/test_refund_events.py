"""db/functions/act_on_refund.sql, settle_charge.sql, settle_order.sql, shares.sql, ask.sql: refunds of Stripe's."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, row, rows, value
from tests.support.events import (
    asked,
    asked_for,
    by_events,
    event,
    failed,
    ingest,
    is_withdrawn,
    kept,
    refund,
    refunded,
    requests,
    result,
    states,
)
from tests.support.transfers import (
    call,
    create_transfer,
    family,
    record_transfer,
    request_parts,
    request_reversal,
    transfer,
)
from tests.support.work import work

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    by_events(rolled_back_db)
    return rolled_back_db


def paid(db: Database, n: int = 1, amount: int = 90, charge_amount: int | None = 100, **changes: object) -> int:
    """Transfer number `n` of order-1, paid from ch_1; its id."""
    values = {"p_order_id": "order-1", "p_amount": amount, "p_source_charge": "ch_1", "p_charge_amount": charge_amount}
    return int(record_transfer(db, n, **{**values, **changes})["id"])


def test_a_refund_of_half_the_charge_takes_half_of_the_transfer_and_the_other_half_the_rest(db: Database) -> None:
    root = paid(db)

    assert refunded(db, "re_1", 50)["result"] == "acted"
    assert [(each["amount"], each["status"]) for each in family(db, root)] == [
        (45, "completed"),
        (45, "reversal_pending"),
    ]
    assert refunded(db, "re_2", 50)["result"] == "acted"

    assert asked_for(db, "re_1") == {"key-1": (45, 45, 0)}
    assert asked_for(db, "re_2") == {"key-1": (45, 45, 0)}
    assert {each["status"] for each in family(db, root)} == {"reversal_pending"}


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_nothing_is_asked_before_a_refund_succeeds(db: Database, status: str) -> None:
    root = paid(db)

    assert result(db, event("refund.created", refund(status=status))) == "acted"
    assert requests(db) == []
    assert transfer(db, root)["status"] == "completed"

    refunded(db)
    assert asked(db) == {"key-1": 45}
    assert result(db, event("refund.updated", refund(status=status))) == "acted"
    assert value(db, "select status from marketplace.stripe_refunds") == "succeeded"


@pytest.mark.parametrize(
    ("transferred", "currency", "charged", "refunds", "expected"),
    [
        (90, "usd", 100, [50, 50], [45, 45]),
        (15, "usd", 100, [10, 10, 10], [2, 1, 2]),  # 1.5, 3, 4.5: half up, the sum so far
        (1, "usd", 100, [49, 1, 50], [0, 1, 0]),
        (1000, "kwd", 1000, [333, 333, 334], [330, 340, 330]),  # its last digit is 0
        (1000, "isk", 1000, [333, 667], [300, 700]),
        (7, "jpy", 3, [1, 1, 1], [2, 3, 2]),  # 2.33, 4.67, 7: the transfer may be more than the charge
        (999_999_999_999, "usd", 999_999_999_999, [1, 999_999_999_998], [1, 999_999_999_998]),
    ],
)
def test_shares_are_rounded_over_all_that_went_back_and_end_with_the_whole(
    db: Database, transferred: int, currency: str, charged: int, refunds: list[int], expected: list[int]
) -> None:
    paid(db, amount=transferred, charge_amount=charged, p_currency=currency)

    for n, amount in enumerate(refunds, start=1):
        assert refunded(db, f"re_{n}", amount, currency=currency)["result"] == "acted"

    found = [asked_for(db, f"re_{n}").get("key-1", (0, 0, 0))[0] for n in range(1, len(refunds) + 1)]
    assert found == expected


def test_only_transfers_of_the_charge_are_asked(db: Database) -> None:
    paid(db, 1)
    paid(db, 2, amount=40, p_source_charge="ch_2", charge_amount=50)
    paid(db, 3, amount=60, p_order_id="order-3")

    refunded(db)

    assert asked(db) == {"key-1": 45, "key-3": 30}
    assert requests(db) == ["re_1", "re_1+2"]  # a request is of one order


def test_what_earlier_requests_took_counts_and_is_not_asked_again(db: Database) -> None:
    paid(db)
    request_parts(db, {"key-1": 10}, "goodwill-1", p_reason="manual")

    refunded(db)

    assert asked_for(db, "re_1") == {"key-1": (35, 35, 0)}
    request_parts(db, {"key-1": 20}, "goodwill-2", p_reason="manual")
    refunded(db, "re_2", 10)
    assert asked_for(db, "re_2") == {}
    assert requests(db) == ["goodwill-1", "re_1", "goodwill-2", "re_2"]


def test_a_refund_before_the_seller_is_paid_ends_the_share_and_in_flight_it_stays_in_the_line(db: Database) -> None:
    values = {"p_order_id": "order-1", "p_amount": 90, "p_source_charge": "ch_1", "p_charge_amount": 100}
    unsent = create_transfer(db, 1, **values)
    flying = create_transfer(db, 2, **values)
    db.execute(
        "update marketplace.seller_transfers set call_last_sent_at = clock_timestamp(), call_unknown = true"
        " where id = %s",
        [flying["id"]],
    )

    assert refunded(db)["result"] == "acted"

    assert asked_for(db, "re_1") == {"key-1": (45, 45, 0), "key-2": (45, 0, 45)}
    assert [(each["amount"], each["failure_code"]) for each in family(db, unsent["id"])] == [
        (45, None),
        (45, "refunded_before_transfer"),
    ]
    assert transfer(db, flying["id"])["status"] == "pending"


def test_a_refund_of_an_unknown_charge_is_kept_and_done_when_its_transfer_is_recorded(db: Database) -> None:
    came = refunded(db, "re_1", 100)

    assert came["result"] == "kept"
    waiting = kept(db, came["event_id"])
    assert waiting["detail"].startswith("ST010: no order is known for charge ch_1")
    assert "note_charge(p_charge_id => 'ch_1'" in waiting["next_step"]

    root = paid(db)
    assert transfer(db, root)["status"] == "reversal_pending"
    assert states(db) == {came["event_id"]: "acted"}
    late = paid(db, 2)
    assert transfer(db, late)["status"] == "reversal_pending"
    assert asked(db) == {"key-1": 90, "key-2": 90}
    assert requests(db) == ["re_1", "re_1+2"]


def test_a_refund_of_an_order_that_has_no_transfer_yet_names_the_order(db: Database) -> None:
    db.execute("select from marketplace.note_charge(p_charge_id => 'ch_1', p_order_id => 'order-1', p_amount => 100)")
    came = refunded(db, "re_1", 100)

    assert came["result"] == "kept"
    assert kept(db, came["event_id"])["detail"].startswith("ST010: order order-1 has no transfer of charge ch_1 yet")

    root = paid(db)
    assert transfer(db, root)["status"] == "reversal_pending"
    assert states(db) == {came["event_id"]: "acted"}


def test_a_transfer_recorded_after_a_partial_refund_gives_its_share_and_pays_the_rest(db: Database) -> None:
    paid(db)
    refunded(db)

    later = create_transfer(db, 2, p_order_id="order-1", p_amount=10, p_source_charge="ch_1")

    assert asked(db) == {"key-1": 45, "key-2": 5}
    assert later["amount"] == 5
    assert later["status"] == "pending"


@pytest.mark.parametrize("waits", [False, True])
def test_a_transfer_recorded_after_several_refunds_has_back_what_the_one_that_fails_took(
    db: Database, waits: bool
) -> None:
    paid(db)
    refunded(db, "re_1", 50)
    refunded(db, "re_2", 10)
    if waits:
        db.execute("update marketplace.charges set amount = null")
        assert refunded(db, "re_3", 10)["result"] == "kept"
    late = paid(db, 2)
    assert asked_for(db, "re_1+2") == {"key-2": (45, 45, 0)}
    assert asked_for(db, "re_2+2") == {"key-2": (9, 9, 0)}
    assert asked(db) == dict.fromkeys(("key-1", "key-2"), 63 if waits else 54)
    assert sorted(work(db)) == sorted(("reversed", amount) for amount in (45, 9, 45, 9, *[9, 9] * waits))

    failed(db, "re_1", 50)

    given_back = "select amount from marketplace.seller_transfers where compensates is not null order by id"
    assert [each["amount"] for each in rows(db, given_back)] == [45, 45]
    assert asked(db) == dict.fromkeys(("key-1", "key-2"), 18 if waits else 9)
    assert transfer(db, late)["status"] == "completed"


def test_transfers_that_name_no_charge_are_those_of_the_orders_only_one(db: Database) -> None:
    record_transfer(db, 1, p_amount=90)
    call(db, "note_charge", p_charge_id="ch_1", p_amount=100, p_order_id="order-1")

    assert refunded(db)["result"] == "acted"
    assert asked(db) == {"key-1": 45}

    call(db, "note_charge", p_charge_id="ch_2", p_amount=100, p_order_id="order-1")
    came = refunded(db, "re_2", 10)
    assert came["result"] == "kept"
    assert "several charges" in came["detail"]
    assert "request_reversal" in kept(db, came["event_id"])["next_step"]


def test_a_charge_whose_amount_is_unknown_waits_with_the_call_to_type(db: Database) -> None:
    paid(db, charge_amount=None)
    came = refunded(db)
    assert came["result"] == "kept"

    typed = kept(db, came["event_id"])["next_step"]
    assert typed == "select * from marketplace.note_charge(p_charge_id => 'ch_1', p_amount => …);"
    db.execute(typed.replace("…", "100").encode())

    assert asked(db) == {"key-1": 45}
    assert states(db) == {came["event_id"]: "acted"}


def test_refunds_that_waited_together_each_ask_for_their_own(db: Database) -> None:
    for n in (2, 1, 3):
        refunded(db, f"re_{n}", 10)
    paid(db, amount=15)

    assert [asked_for(db, f"re_{n}")["key-1"][0] for n in (1, 2, 3)] == [2, 1, 2]
    assert set(states(db).values()) == {"acted"}


@pytest.mark.parametrize("ending", ["failed", "canceled"])
def test_a_refund_that_fails_withdraws_its_request_whenever_that_is_told(db: Database, ending: str) -> None:
    paid(db)
    end = event("refund.updated", refund(status=ending))
    refunded(db)
    assert result(db, end) == "acted"
    assert is_withdrawn(db, "re_1")

    # Told first, then that it succeeded: nothing is asked.
    assert result(db, event("refund.failed", refund("re_2", 50, ending))) == "acted"
    assert refunded(db, "re_2", 50)["result"] == "acted"
    assert is_withdrawn(db, "re_2")
    assert asked(db) == {}
    assert {each["status"] for each in rows(db, "select status from marketplace.stripe_refunds")} == {ending}


def test_what_lacks_after_a_refund_failed_is_asked_beside_what_stands(db: Database) -> None:
    paid(db, amount=15)
    refunded(db, "re_1", 10)  # 1.5, so 2
    refunded(db, "re_2", 10)  # 3, so 1 more
    failed(db, "re_1", 10)

    assert asked(db) == {"key-1": 2}
    assert asked_for(db, "re_2+2")["key-1"][0] == 1

    failed(db, "re_2", 10)
    assert asked(db) == {}
    assert is_withdrawn(db, "re_2+2")


def test_what_is_too_much_after_a_refund_failed_is_asked_again_for_less_while_nothing_was_sent(db: Database) -> None:
    paid(db, amount=14)
    refunded(db, "re_1", 10)  # 1.4, so 1
    refunded(db, "re_2", 10)  # 2.8, so 2 more
    failed(db, "re_1", 10)

    assert asked(db) == {"key-1": 1}
    assert is_withdrawn(db, "re_2")
    replaced = row(db, "select * from marketplace.reversal_requests where reversal_request_id = 're_2+2'")
    assert (replaced["asked_by"], replaced["asked_for"], replaced["replaces"]) == ("events", "re_2", "re_2")
    assert refunded(db, "re_2", 10)["result"] == "acted"
    assert asked(db) == {"key-1": 1}


def test_a_quantum_too_much_stays_once_its_reversal_was_sent_and_the_next_refund_makes_it_up(db: Database) -> None:
    paid(db, amount=14)
    refunded(db, "re_1", 10)
    refunded(db, "re_2", 10)
    db.execute(
        "update marketplace.seller_transfers set call_last_sent_at = clock_timestamp()"
        " where reversal_request_id = 're_2'"
    )
    failed(db, "re_1", 10)
    assert asked(db) == {"key-1": 2}

    refunded(db, "re_3", 10)
    assert asked(db) == {"key-1": 3}


def test_what_a_person_withdrew_is_not_asked_again(db: Database) -> None:
    paid(db)
    refunded(db)
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="the seller keeps it")

    assert refunded(db)["result"] == "acted"
    assert asked(db) == {}
    refunded(db, "re_2", 10)
    assert asked(db) == {"key-1": 9}


def test_a_part_that_a_person_withdrew_is_not_asked_again_and_the_others_stand(db: Database) -> None:
    paid(db, 1)
    paid(db, 2, amount=60, p_order_id="order-2")
    refunded(db, "re_1", 50)
    paid(db, 3, amount=10)
    assert requests(db) == ["re_1", "re_1+2", "re_1+3"]
    for part in ("re_1+2", "re_1+3"):
        call(db, "withdraw_reversal_request", p_reversal_request_id=part, p_reason="the seller keeps it")

    refunded(db, "re_1", 50)
    assert asked(db) == {"key-1": 45}
    refunded(db, "re_2", 10)
    assert asked(db) == {"key-1": 54, "key-2": 6, "key-3": 1}
    refunded(db, "re_3", 40)
    assert asked(db) == {"key-1": 90, "key-2": 30, "key-3": 5}
    failed(db, "re_1", 50)
    assert asked(db) == {"key-1": 45, "key-2": 30, "key-3": 5}


def test_who_withdraws_a_refund_withdraws_all_that_events_asked_for_it(db: Database) -> None:
    roots = [paid(db, 1), paid(db, 2, amount=60, p_order_id="order-2")]
    refunded(db, "re_1", 100)
    roots.append(paid(db, 3, amount=10))

    given_back = call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="the refund failed")

    assert asked(db) == {}
    assert sum(each["amount"] for each in given_back if each["status"] == "completed") == 160
    assert {each["root_id"] or each["id"] for each in given_back} == set(roots)
    assert refunded(db, "re_1", 100)["result"] == "acted"
    paid(db, 4, amount=20)
    assert asked(db) == {}


def test_with_refunds_by_app_events_only_note_the_refund_and_withdraw_it_when_it_fails(db: Database) -> None:
    call(db, "set_refunds_by", p_who="app", p_reason="the app knows better")
    paid(db)

    assert refunded(db)["result"] == "acted"
    assert requests(db) == []
    request_parts(db, {"key-1": 30}, "re_1")
    refunded(db)
    assert asked(db) == {"key-1": 30}
    failed(db)
    assert is_withdrawn(db, "re_1")

    # Whoever asks from now on: that one was the app's to decide.
    refunded(db, "re_2", 50)
    by_events(db)
    refunded(db, "re_2", 50)
    assert asked(db) == {}


def test_the_second_to_ask_for_a_refund_changes_nothing(db: Database) -> None:
    paid(db)
    refunded(db)
    (taken,) = request_parts(db, {"key-1": 30}, "re_1")
    assert taken["amount"] == 45
    assert [each["id"] for each in request_reversal(db)] == [taken["id"]]
    with pytest.raises(psycopg.Error) as other_order, db.transaction():
        request_reversal(db, p_order_id="order-2")
    assert other_order.value.sqlstate == "ST003"
    assert asked(db) == {"key-1": 45}

    request_parts(db, {"key-1": 10}, "re_2")
    assert refunded(db, "re_2", 40)["result"] == "acted"
    assert asked_for(db, "re_2") == {"key-1": (10, 10, 0)}


def test_a_refund_that_names_only_its_payment_finds_the_charge(db: Database) -> None:
    paid(db)
    came = refunded(db, "re_1", 50, charge=None, payment_intent="pi_1")
    assert came["result"] == "kept"
    assert "no charge is known for payment intent pi_1" in came["detail"]

    call(db, "note_charge", p_charge_id="ch_1", p_payment_intent="pi_1")

    assert states(db) == {came["event_id"]: "acted"}
    assert asked(db) == {"key-1": 45}


def test_a_refund_that_cannot_be_read_is_kept_with_its_error(db: Database) -> None:
    paid(db)
    for wrong in ({"status": None}, {"status": "odd"}, {"amount": 0}, {"amount": "50"}, {"id": 5}, {"currency": None}):
        came = ingest(db, event("refund.updated", {**refund(), **wrong}))
        assert (wrong, came["result"]) == (wrong, "kept")
        assert came["detail"].startswith("ST010: ")
        assert kept(db, came["event_id"])["next_step"]
    assert rows(db, "select from marketplace.stripe_refunds") == []
    refunded(db)
    assert refunded(db, "re_1", 60)["result"] == "kept"
    assert refunded(db, "re_1", 50, charge="ch_2")["result"] == "kept"
    assert asked(db) == {"key-1": 45}


def test_what_goes_wrong_while_it_is_acted_on_is_undone_and_kept_but_the_refund_is_noted(db: Database) -> None:
    paid(db)
    db.execute("alter table marketplace.reversal_request_lines add constraint chk_odd check (asked <> 45)")

    came = refunded(db)

    assert came["result"] == "kept"
    assert came["detail"].startswith("23514: ")
    assert requests(db) == []
    assert value(db, "select status from marketplace.stripe_refunds") == "succeeded"
    db.execute("alter table marketplace.reversal_request_lines drop constraint chk_odd")
    (again,) = call(db, "retry_events")
    assert (again["event_id"], again["result"]) == (came["event_id"], "acted")
    assert asked(db) == {"key-1": 45}


@pytest.mark.parametrize("named", [{}, {"charge": None, "payment_intent": "pi_1"}])
def test_a_share_of_a_new_transfer_that_cannot_be_asked_does_not_stop_the_app(
    db: Database, named: dict[str, Any]
) -> None:
    paid(db)
    call(db, "note_charge", p_charge_id="ch_1", p_payment_intent="pi_1")
    came = refunded(db, **named)
    db.execute("alter table marketplace.reversal_request_lines add constraint chk_odd check (asked <> 5)")

    create_transfer(db, 2, p_order_id="order-1", p_amount=10, p_source_charge="ch_1")

    assert states(db) == {came["event_id"]: "kept"}
    db.execute("alter table marketplace.reversal_request_lines drop constraint chk_odd")
    (again,) = call(db, "retry_events")
    assert again["result"] == "acted"
    assert asked(db) == {"key-1": 45, "key-2": 5}


@pytest.mark.parametrize("of_app", [0, 9, 18, 40])
def test_what_the_app_was_to_ask_is_asked_by_no_event_whoever_decides_now(db: Database, of_app: int) -> None:
    paid(db)
    refunded(db, "re_1", 20)
    call(db, "set_refunds_by", p_who="app", p_reason="the app knows better")
    refunded(db, "re_2", 20)
    paid(db, 2)  # whatever looks at the charge again
    assert asked(db) == {"key-1": 18, "key-2": 18}

    if of_app:
        request_parts(db, {"key-1": of_app}, "own-2" if of_app > 18 else "re_2")
    by_events(db)
    refunded(db, "re_2", 20)
    assert asked(db) == {"key-1": 18 + of_app, "key-2": 18}

    # Of the next one, what the app took beyond its own refunds; and what it left to the seller stays there.
    refunded(db, "re_3", 10)
    assert asked(db) == {"key-1": 18 + max(of_app, 9 + min(of_app, 18)), "key-2": 27}
    refunded(db, "re_4", 50)
    assert asked(db) == {"key-1": 72 + min(of_app, 18), "key-2": 72}


def test_where_the_app_asked_for_less_no_later_event_takes_the_rest(db: Database) -> None:
    paid(db)
    refunded(db, "re_1", 20)
    request_parts(db, {"key-1": 5}, "re_2")
    refunded(db, "re_2", 20)
    refunded(db, "re_1", 20)
    assert asked(db) == {"key-1": 23}
    refunded(db, "re_3", 10)
    assert asked(db) == {"key-1": 32}
    failed(db, "re_1", 20)
    assert asked(db) == {"key-1": 14}


def test_the_app_may_not_read_an_event_as_its_own_request(db: Database) -> None:
    paid(db)
    refunded(db)
    found = row(db, "select * from marketplace.reversal_requests")
    assert (found["asked_by"], found["asked_for"], found["reason"]) == ("events", "re_1", "refund")
    assert (found["is_whole"], found["asked_amount"]) == (False, None)
    request_reversal(db, p_reversal_request_id="own-1", p_allocation=Jsonb([{"transfer_key": "key-1", "amount": 1}]))
    own = row(db, "select * from marketplace.reversal_requests where reversal_request_id = 'own-1'")
    assert (own["asked_by"], own["asked_for"]) == ("app", None)
