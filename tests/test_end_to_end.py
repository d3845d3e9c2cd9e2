"""What becomes of a refunded order: app, database, runner and Stripe together, over HTTP.

One run serves all tests of this file: a runner process, a Stripe that answers in every way it can, an order for each
way. Each test looks at what came of its order, in the database and in Stripe's ledger.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from psycopg.rows import DictRow

from runner.sandbox.simulator import LedgerEntry, LoggedRequest, SimulatorClient, simulator_process
from tests.support.databases import Database, SchemaCopy, ServerAddress, open_database, value
from tests.support.orders import (
    attempts_of,
    calls_for,
    open_rows,
    pay_sellers,
    record_paid,
    refund,
    reversals_of,
    set_delays,
    transfer_of,
)
from tests.support.runners import runners, wait_until

# How each order's first call goes wrong so that nobody knows whether money moved.
UNKNOWN: dict[str, dict[str, Any]] = {
    "droppedafter": {"action": "drop_after"},
    "truncated": {"action": "truncated"},
    "hanging": {"action": "hang_body", "committed": True},
    "slow": {"action": "delay", "seconds": 1.5},
    "stored500": {"action": "error_after"},
    "droppedbefore": {"action": "drop_before"},
    "hangingempty": {"action": "hang_body", "committed": False},
    "error500": {"action": "error", "status": 500, "type": "api_error", "message": "An unknown error occurred"},
    "kept500": {"action": "error", "status": 500, "type": "api_error", "message": "Sorry.", "stored": True},
    "list": {"action": "garbage", "body": "[1,2]"},
    "page": {"action": "garbage", "body": "<html>", "status": 400, "content_type": "text/html"},
    "othererror": {"action": "garbage", "body": '{"error":"x"}', "status": 400},
    "otherobject": {"action": "garbage", "body": '{"id": "tr_1", "object": "transfer"}'},
    "redirect": {"action": "redirect", "location": "/v1/balance"},
}
MOVED_BY_THE_FIRST_CALL = ("droppedafter", "truncated", "hanging", "slow", "stored500")
# Definitive answers that are not the end of it.
PASSING: dict[str, dict[str, Any]] = {
    "refusedtwice": {"action": "error", "status": 400, "message": "Not today.", "times": 2, "stored": True},
    "refused": {"action": "error", "status": 400, "message": "Never.", "times": None, "stored": True},
    "locked": {"action": "error", "status": 429, "code": "lock_timeout", "message": "Locked.", "times": 2},
}
PLAIN = {"plain": (1050, "usd"), "yen": (500, "jpy"), "dinar": (12340, "bhd")}
CALL_DEADLINE = 0.6
# How long a request may be under way here; an hour where it is real.
QUIET = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """All there is to know of one order when the run is over."""

    stripe_transfer_id: str
    row: DictRow
    attempts: list[DictRow]
    calls: list[LoggedRequest]
    reversals: list[LedgerEntry]

    @property
    def keys(self) -> list[str | None]:
        """The idempotency key of each call."""
        return [call.idempotency_key for call in self.calls]


Run = dict[str, Order]


def pay_everybody(db: Database, stripe: SimulatorClient) -> dict[str, str]:
    """One order for each way to be answered; gives Stripe's id of each name's transfer."""
    transfers = {"ghost": "tr_ghost", "ghostly": "tr_ghostly"}
    record_paid(db, list(transfers), list(transfers.values()))
    for name, (amount, currency) in PLAIN.items():
        (transfers[name],) = pay_sellers(db, stripe, name, amount=amount, currency=currency)
    others = ["byhand", "poor", *UNKNOWN, *PASSING]
    transfers |= zip(others, pay_sellers(db, stripe, *others), strict=True)
    # Somebody at the dashboard was quicker, and one seller has spent it.
    assert stripe.stripe("POST", f"/v1/transfers/{transfers['byhand']}/reversals").status == 200
    stripe.fund(-1000, "usd", account="acct_poor")
    for name, fault in (UNKNOWN | PASSING).items():
        stripe.add_faults([{**fault, "match": {"method": "POST", "transfer": transfers[name]}}])
    return transfers


def go_through(db: Database, stripe: SimulatorClient, transfers: dict[str, str]) -> None:
    """Refund everybody, help along what needs help, and wait until every row is at its end."""
    refund(db, *transfers)
    wait_until(lambda: transfer_of(db, "poor")["streak"] >= 2, "the poor seller's reversal is refused twice")
    stripe.fund(1000, "usd", account="acct_poor")
    wait_until(lambda: open_rows(db) == 0, "every row is at its end")


@pytest.fixture(scope="module")
def run(schema_copy: SchemaCopy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with (
        schema_copy("end_to_end") as dsn,
        simulator_process() as stripe,
        runners(dsn, stripe.base_url, tmp_path_factory.mktemp("runner")) as start_runner,
        closing(open_database(dsn)) as db,
    ):
        set_delays(db, "unknown", "100 ms")
        set_delays(db, "throttled", "100 ms")
        set_delays(db, "insufficient_balance", "100 ms")
        set_delays(db, "transient", "50 ms", factor=2)
        db.execute(
            "update marketplace.retry_policy set quiet = make_interval(secs => %s) where verdict = 'unknown'", [QUIET]
        )
        transfers = pay_everybody(db, stripe)
        start_runner(slots=16, call_deadline_seconds=CALL_DEADLINE)
        go_through(db, stripe, transfers)
        yield {
            name: Order(
                stripe_transfer_id=transfer,
                row=transfer_of(db, name),
                attempts=attempts_of(db, name),
                calls=calls_for(stripe, transfer),
                reversals=reversals_of(stripe, transfer),
            )
            for name, transfer in transfers.items()
        }


@pytest.mark.parametrize("name", PLAIN)
def test_a_refunded_transfer_is_reversed_once_and_the_evidence_is_stripes(run: Run, name: str) -> None:
    order = run[name]
    amount, currency = PLAIN[name]

    (call,) = order.calls
    (reversal,) = order.reversals
    assert (order.row["status"], order.row["stripe_reversal_id"]) == ("reversed", reversal.reversal)
    assert (order.row["failure_code"], order.row["failure_message"]) == (None, None)
    assert (reversal.amount, reversal.moved, reversal.currency) == (amount, amount, currency)
    assert (reversal.transfer, reversal.debit) == (order.stripe_transfer_id, f"acct_{name}")
    assert reversal.metadata == {
        "seller_transfers_identity": str(call.idempotency_key).removesuffix(":1"),
        "seller_transfers_generation": "1",
        "transfer_key": order.row["transfer_key"],
        "order_id": f"order-{name}",
        "reversal_request_id": f"re_{name}",
    }
    # The amount is always said: without it, Stripe would take all there is.
    assert call.params["amount"] == str(amount)


def test_a_call_is_kept_with_what_stripes_support_asks_for(run: Run) -> None:
    order = run["plain"]

    (call,) = order.calls
    (attempt,) = order.attempts
    assert (attempt["kind"], attempt["verdict"], attempt["disposition"]) == ("call", "succeeded", "applied")
    assert (attempt["http_status"], attempt["stripe_request_id"]) == (200, call.request_id)
    assert attempt["idempotency_key"] == call.idempotency_key
    assert (attempt["stripe_object_id"], attempt["worker"]) == (order.row["stripe_reversal_id"], "blue")


@pytest.mark.parametrize("name", ["ghost", "ghostly"])
def test_a_transfer_that_stripe_does_not_know_fails_for_good_after_one_call(run: Run, name: str) -> None:
    order = run[name]

    assert (order.row["status"], order.row["failure_code"]) == ("permanently_failed", "resource_missing")
    assert f"'tr_{name}'" in order.row["failure_message"]
    assert ([call.status for call in order.calls], order.row["retry_count"]) == ([404], 0)


def test_what_was_reversed_elsewhere_is_reversed_and_says_so(run: Run) -> None:
    order = run["byhand"]

    (reversal,) = order.reversals
    assert [call.idempotency_key is None for call in order.calls] == [True, False]  # theirs, ours
    assert (order.row["status"], order.row["failure_code"]) == ("reversed", "already_reversed")
    assert order.row["failure_message"] == f"Reversed elsewhere: {reversal.reversal} (1000)"
    assert [attempt["verdict"] for attempt in order.attempts] == ["already_reversed", "already_reversed"]
    # Only a reversal of ours is evidence of ours.
    assert (order.row["stripe_reversal_id"], reversal.metadata) == (None, {})


def test_a_refusal_is_retried_with_growing_delays_and_ends_after_six_calls(run: Run) -> None:
    order = run["refused"]

    assert [call.status for call in order.calls] == [400] * 6
    assert order.keys == [f"{str(order.keys[0])[:-2]}:{generation}" for generation in range(1, 7)]
    gaps = [later.arrived_monotonic - call.arrived_monotonic for call, later in pairwise(order.calls)]
    for gap, least in zip(gaps, [0.05, 0.1, 0.2, 0.4, 0.8], strict=True):
        assert gap >= least
    assert (order.row["status"], order.row["retry_count"]) == ("permanently_failed", 6)
    assert "6 times" in order.row["failure_message"]
    assert "Never." in order.row["failure_message"]
    assert order.reversals == []


def test_a_refusal_that_passes_leaves_no_mark_on_the_result(run: Run) -> None:
    order = run["refusedtwice"]

    # Stripe stores a 400 and would replay it for ever: each try has a key of its own.
    assert [(call.status, call.replayed) for call in order.calls] == [(400, False), (400, False), (200, False)]
    assert len(set(order.keys)) == 3
    (reversal,) = order.reversals
    assert (order.row["status"], order.row["stripe_reversal_id"]) == ("reversed", reversal.reversal)
    assert order.row["retry_count"] == 2


def test_a_balance_that_is_too_low_is_waited_for_without_spending_a_retry(run: Run) -> None:
    order = run["poor"]

    *refused, last = order.calls
    assert len(refused) >= 2
    assert ({call.status for call in refused}, last.status) == ({400}, 200)
    assert len(set(order.keys)) == len(order.calls)
    (reversal,) = order.reversals
    assert (order.row["status"], order.row["stripe_reversal_id"]) == ("reversed", reversal.reversal)
    assert order.row["retry_count"] == 0


def test_being_told_to_come_back_later_costs_neither_a_retry_nor_the_key(run: Run) -> None:
    order = run["locked"]

    assert [call.status for call in order.calls] == [429, 429, 200]
    assert len(set(order.keys)) == 1
    assert (order.row["status"], order.row["retry_count"]) == ("reversed", 0)


@pytest.mark.parametrize("name", [name for name in UNKNOWN if name != "kept500"])
def test_an_unknown_outcome_is_looked_up_and_ends_in_one_reversal_under_one_key(run: Run, name: str) -> None:
    order = run[name]

    by_the_first = name in MOVED_BY_THE_FIRST_CALL
    (reversal,) = order.reversals
    assert (reversal.amount, order.row["status"], order.row["retry_count"]) == (1000, "reversed", 0)
    assert order.row["stripe_reversal_id"] == reversal.reversal
    assert order.attempts[0]["verdict"] == "unknown"
    assert order.attempts[0]["error_message"] is not None
    assert not order.row["call_unknown"]
    # What the first call did is found, and nothing is sent again; what it did not do is sent once more, as it was.
    assert len(set(order.keys)) == 1
    assert order.attempts[1]["action"] == "look_up_reversals"
    if name != "slow":  # which is sent again while it is under way
        assert len(order.calls) == (1 if by_the_first else 2)
        assert order.attempts[1]["verdict"] == ("succeeded" if by_the_first else "absent")
    assert (reversal.request == order.calls[0].seq) == by_the_first


def test_a_stored_500_without_effect_is_read_once_more_and_then_takes_another_key(run: Run) -> None:
    order = run["kept500"]

    assert [(call.status, call.replayed) for call in order.calls] == [(500, False), (500, True), (200, False)]
    first, again, last = order.keys
    assert (again, last) == (first, f"{str(first)[:-1]}2")
    # In between it was looked up until nothing of the first two calls could arrive any more.
    sent_again, found_nothing = order.attempts[2], order.attempts[-2]
    assert (sent_again["replayed"], found_nothing["verdict"]) == (True, "absent")
    assert (found_nothing["started_at"] - sent_again["finished_at"]).total_seconds() >= QUIET
    assert order.row["stripe_reversal_id"] == order.reversals[0].reversal


def test_a_call_that_hangs_ends_at_its_deadline(run: Run) -> None:
    for name in ("hanging", "hangingempty", "slow"):
        milliseconds = run[name].attempts[0]["duration_ms"]
        assert CALL_DEADLINE * 1000 <= milliseconds < CALL_DEADLINE * 1000 + 1000
        assert f"after {CALL_DEADLINE} s" in run[name].attempts[0]["error_message"]


def test_every_row_ends_reversed_or_says_in_words_why_not(run: Run) -> None:
    assert {name for name, order in run.items() if order.row["status"] != "reversed"} == {"ghost", "ghostly", "refused"}
    for order in run.values():
        assert order.row["stripe_reversal_id"] is not None or order.row["failure_message"]


def test_nothing_is_reversed_twice_or_beyond_the_transfer(run: Run) -> None:
    for order in run.values():
        asked = order.row["amount"] if order.row["status"] == "reversed" else 0
        assert sum(reversal.moved for reversal in order.reversals) == asked


def test_every_call_at_stripe_is_an_attempt_in_the_database(run: Run) -> None:
    for name, order in run.items():
        ours = [call for call in order.calls if call.idempotency_key is not None]
        assert {attempt["kind"] for attempt in order.attempts} == {"call"}, name
        posts = [attempt for attempt in order.attempts if attempt["action"] == "reverse"]
        assert [attempt["idempotency_key"] for attempt in posts] == [call.idempotency_key for call in ours]


def test_the_database_has_nothing_to_complain_of(run: Run, server_address: ServerAddress) -> None:
    with closing(open_database(server_address.dsn("end_to_end"))) as db:
        db.execute("update marketplace.retry_policy set quiet = '1 hour' where verdict = 'unknown'")
        assert value(db, "select count(*) from marketplace.self_check()") == 0
