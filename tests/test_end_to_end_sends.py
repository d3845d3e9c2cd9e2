"""What becomes of a transfer that is to be sent, refunded or not: app, database, runner and Stripe, over HTTP.

One run serves most tests of this file, as in test_end_to_end.py: a runner process, a Stripe that answers in every way
it can, an order for each way.
"""

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from runner.sandbox.simulator import LedgerEntry, LoggedRequest, SimulatorClient, simulator_process
from tests.support.databases import Database, SchemaCopy, ServerAddress, open_database, rows, value
from tests.support.orders import (
    attempts_of,
    calls_for,
    open_rows,
    order_payouts,
    pay_sellers,
    payments_to,
    refund,
    refunded,
    sends_to,
    set_delays,
    statuses,
    transfer_of,
)
from tests.support.runners import StartRunner, runners, wait_until
from tests.support.transfers import attempts, call, family, request_lines

# The first request of each goes wrong so that nobody knows whether money moved.
UNKNOWN: dict[str, dict[str, Any]] = {
    "droppedafter": {"action": "drop_after"},
    "truncated": {"action": "truncated"},
    "stored500": {"action": "error_after"},
    "droppedbefore": {"action": "drop_before"},
    "error500": {"action": "error", "status": 500, "type": "api_error", "message": "An unknown error occurred"},
    "kept500": {"action": "error", "status": 500, "type": "api_error", "message": "Sorry.", "stored": True},
    "list": {"action": "garbage", "body": "[1,2]"},
}
PAID_BY_THE_FIRST_CALL = ("droppedafter", "truncated", "stored500")
# Definitive answers that are not the end of it.
PASSING: dict[str, dict[str, Any]] = {
    "refusedtwice": {"action": "error", "status": 400, "message": "Not today.", "times": 2, "stored": True},
    "refused": {"action": "error", "status": 400, "message": "Never.", "times": None, "stored": True},
    "locked": {"action": "error", "status": 429, "code": "lock_timeout", "message": "Locked.", "times": 2},
    "limited": {"action": "error", "status": 429, "code": "rate_limit", "message": "Too many."},
}
# Refunded while their request stands at Stripe, before or after it is executed: what it is answered when it goes on.
REFUNDED: dict[str, tuple[str, dict[str, Any] | None]] = {
    "paidthen": ("before", None),
    "paidbefore": ("after", None),
    "paidinpart": ("before", None),
    "lostthen": ("before", {"action": "drop_after"}),
    "nevermade": ("before", {"action": "drop_before"}),
    "refusedthen": ("before", {"action": "error", "status": 400, "message": "Not today.", "stored": True}),
}
PLAIN = {"plain": (1050, "usd"), "yen": (500, "jpy"), "dinar": (12340, "bhd")}
CHARGED = ("charged", "groupless")
# How long a request may be under way here; an hour where it is real.
QUIET = 0.8


@dataclass(frozen=True, slots=True)
class Order:
    """All there is to know of one order when the run is over; `rows`: the transfer, then its slices."""

    rows: list[DictRow]
    attempts: list[DictRow]
    sends: list[LoggedRequest]
    payments: list[LedgerEntry]
    reversals: list[LedgerEntry]

    @property
    def row(self) -> DictRow:
        """The row of an order that was never split."""
        (only,) = self.rows
        return only

    @property
    def keys(self) -> list[str | None]:
        """The idempotency key of each send."""
        return [each.idempotency_key for each in self.sends]


Run = dict[str, Order]


def create_all(db: Database, stripe: SimulatorClient) -> list[str]:
    """One order for each way to be answered; gives their names."""
    stripe.fund(100_000, "usd")
    for name, (amount, currency) in PLAIN.items():
        stripe.fund(amount, currency)
        order_payouts(db, stripe, name, amount=amount, currency=currency)
    charges = {
        "charged": stripe.create_charge(2000, "usd", transfer_group="the basket"),
        "groupless": stripe.create_charge(2000, "usd"),
    }
    for name, fault in (UNKNOWN | PASSING).items():
        stripe.add_fault(**fault, match={"method": "POST", "destination": f"acct_{name}"})
    for name, (when, then) in REFUNDED.items():
        match = {"method": "POST", "path": "^/v1/transfers$", "destination": f"acct_{name}"}
        stripe.add_fault("hold", name="refunded", when=when, go_on=True, match=match)
        if then is not None:
            stripe.add_fault(**then, match=match)
    order_payouts(db, stripe, "poor", currency="eur")  # of which the platform has none
    order_payouts(db, stripe, *CHARGED, *UNKNOWN, *PASSING, *REFUNDED, charges=charges)
    return [*PLAIN, "poor", *CHARGED, *UNKNOWN, *PASSING, *REFUNDED]


def go_through(db: Database, stripe: SimulatorClient) -> None:
    """Refund who is to be refunded, help along what needs help, and wait until every row is at its end."""
    stripe.wait_for_held("refunded", len(REFUNDED), within_seconds=15)
    refund(db, *(name for name in REFUNDED if name != "paidinpart"))
    part = {"transfer_key": "key-paidinpart", "amount": 300}
    order = {"p_order_id": "order-paidinpart", "p_reversal_request_id": "re_paidinpart"}
    call(db, "request_reversal", **order, p_allocation=Jsonb([part]))
    stripe.release("refunded")
    wait_until(lambda: transfer_of(db, "poor")["streak"] >= 2, "the platform's balance is too low twice")
    stripe.fund(1000, "eur")
    wait_until(lambda: open_rows(db) == 0, "every row is at its end")


def all_about(db: Database, stripe: SimulatorClient, name: str) -> Order:
    root = value(db, "select id from marketplace.seller_transfers where transfer_key = %(key)s", key=f"key-{name}")
    payments = payments_to(stripe, name)
    made = {payment.transfer for payment in payments}
    return Order(
        rows=family(db, root),
        attempts=attempts(db, root),
        sends=sends_to(stripe, name),
        payments=payments,
        reversals=[entry for entry in stripe.ledger(kind="reversal") if entry.transfer in made],
    )


@pytest.fixture(scope="module")
def run(schema_copy: SchemaCopy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with (
        schema_copy("end_to_end_sends") as dsn,
        simulator_process() as stripe,
        runners(dsn, stripe.base_url, tmp_path_factory.mktemp("runner")) as start_runner,
        closing(open_database(dsn)) as db,
    ):
        for verdict in ("unknown", "throttled", "insufficient_balance", "transient"):
            set_delays(db, verdict, "100 ms")
        db.execute(
            "update marketplace.retry_policy set quiet = make_interval(secs => %s) where verdict = 'unknown'", [QUIET]
        )
        # Half of it is left after the one that was too many.
        rows(db, "select * from marketplace.set_stripe_rate(500, 'a test', 500)")
        names = create_all(db, stripe)
        start_runner(slots=32)
        go_through(db, stripe)
        yield {name: all_about(db, stripe, name) for name in names}


@pytest.mark.parametrize("name", PLAIN)
def test_a_transfer_is_sent_once_and_the_evidence_is_stripes(run: Run, name: str) -> None:
    order = run[name]
    amount, currency = PLAIN[name]

    (send,) = order.sends
    (payment,) = order.payments
    assert (order.row["status"], order.row["stripe_transfer_id"]) == ("completed", payment.transfer)
    assert (order.row["failure_code"], order.row["next_retry_at"]) == (None, None)
    assert (payment.amount, payment.moved, payment.currency, payment.credit) == (
        amount,
        amount,
        currency,
        f"acct_{name}",
    )
    assert send.params == {
        "amount": str(amount),
        "currency": currency,
        "destination": f"acct_{name}",
        "transfer_group": f"order-{name}",
        "metadata": {
            "seller_transfers_identity": str(send.idempotency_key).removesuffix(":1"),
            "seller_transfers_generation": "1",
            "transfer_key": f"key-{name}",
            "order_id": f"order-{name}",
        },
    }
    assert order.row["stripe_transfer_group"] == f"order-{name}"


def test_from_a_charge_a_transfer_has_the_charges_group_and_names_none(run: Run) -> None:
    for name, group in (("charged", "the basket"), ("groupless", None)):
        order = run[name]
        (send,), (payment,) = order.sends, order.payments
        assert "transfer_group" not in send.params
        assert (send.params["source_transaction"], payment.charge) == (order.row["source_charge"],) * 2
        assert (order.row["status"], order.row["stripe_transfer_group"]) == ("completed", group)


@pytest.mark.parametrize("name", [name for name in UNKNOWN if name != "kept500"])
def test_an_unknown_outcome_is_looked_up_and_ends_in_one_transfer_under_one_key(run: Run, name: str) -> None:
    order = run[name]

    by_the_first = name in PAID_BY_THE_FIRST_CALL
    (payment,) = order.payments
    assert (order.row["status"], order.row["stripe_transfer_id"]) == ("completed", payment.transfer)
    assert (order.row["retry_count"], order.row["call_unknown"]) == (0, False)
    assert [(each["action"], each["verdict"]) for each in order.attempts] == [
        ("send", "unknown"),
        ("look_up_transfer", "succeeded" if by_the_first else "absent"),
        *([] if by_the_first else [("send", "succeeded")]),
    ]
    assert len(set(order.keys)) == 1
    assert (payment.request == order.sends[0].seq) == by_the_first
    # Adopted or answered, it is what Stripe says of it.
    assert order.row["stripe_transfer_group"] == f"order-{name}"


def test_a_stored_500_without_effect_is_read_once_more_and_then_takes_another_key(run: Run) -> None:
    order = run["kept500"]

    assert [(each.status, each.replayed) for each in order.sends] == [(500, False), (500, True), (200, False)]
    first, again, last = order.keys
    assert (again, last) == (first, f"{str(first)[:-1]}2")
    sent_again, found_nothing = order.attempts[2], order.attempts[-2]
    assert (sent_again["replayed"], found_nothing["verdict"]) == (True, "absent")
    assert (found_nothing["started_at"] - sent_again["finished_at"]).total_seconds() >= QUIET
    assert order.row["stripe_transfer_id"] == order.payments[0].transfer


def test_a_refusal_is_looked_past_retried_under_another_key_and_given_up_after_six_calls(run: Run) -> None:
    order = run["refused"]

    assert [each.status for each in order.sends] == [400] * 6
    assert order.keys == [f"{str(order.keys[0])[:-2]}:{generation}" for generation in range(1, 7)]
    # From the second key on it is looked for first: Stripe would refuse no second transfer.
    assert [each["action"] for each in order.attempts] == ["send", *["look_up_transfer", "send"] * 5]
    assert (order.row["status"], order.row["retry_count"]) == ("permanently_failed", 6)
    assert "6 times" in order.row["failure_message"]
    assert order.payments == []


def test_a_refusal_that_passes_leaves_no_mark_on_the_result(run: Run) -> None:
    order = run["refusedtwice"]

    assert [each.status for each in order.sends] == [400, 400, 200]
    assert len(set(order.keys)) == 3
    (payment,) = order.payments
    assert (order.row["status"], order.row["stripe_transfer_id"]) == ("completed", payment.transfer)
    assert (order.row["failure_code"], order.row["retry_count"]) == (None, 2)


def test_a_platform_without_the_money_waits_for_it_without_spending_a_retry(run: Run) -> None:
    order = run["poor"]

    *refused, last = order.sends
    assert len(refused) >= 2
    assert ({each.status for each in refused}, last.status) == ({400}, 200)
    assert {each["error_code"] for each in order.attempts if each["http_status"] == 400} == {"balance_insufficient"}
    assert len(set(order.keys)) == len(order.sends)
    (payment,) = order.payments
    assert (order.row["status"], order.row["stripe_transfer_id"]) == ("completed", payment.transfer)
    assert order.row["retry_count"] == 0


def test_being_told_to_come_back_later_costs_neither_a_retry_nor_the_key(run: Run) -> None:
    for name, answers in (("locked", [429, 429, 200]), ("limited", [429, 200])):
        order = run[name]
        assert [each.status for each in order.sends] == answers
        assert len(set(order.keys)) == 1
        assert (order.row["status"], order.row["retry_count"]) == ("completed", 0)


@pytest.mark.parametrize("name", ["paidthen", "paidbefore", "lostthen"])
def test_what_is_refunded_while_it_is_sent_is_paid_and_goes_back(run: Run, name: str) -> None:
    order = run[name]

    (send,), (payment,), (reversal,) = order.sends, order.payments, order.reversals
    assert (order.row["status"], order.row["stripe_transfer_id"]) == ("reversed", payment.transfer)
    assert order.row["stripe_reversal_id"] == reversal.reversal
    assert (payment.request, reversal.amount) == (send.seq, 1000)
    found = [("send", "unknown"), ("look_up_transfer", "succeeded")] if name == "lostthen" else [("send", "succeeded")]
    assert [(each["action"], each["verdict"]) for each in order.attempts] == [*found, ("reverse", "succeeded")]


@pytest.mark.parametrize("name", ["nevermade", "refusedthen"])
def test_after_a_refund_nothing_is_sent_any_more(run: Run, name: str) -> None:
    order = run[name]

    assert (len(order.sends), order.payments) == (1, [])
    assert (order.row["status"], order.row["failure_code"]) == ("permanently_failed", "refunded_before_transfer")
    if name == "nevermade":
        # Only looked for, until the request could not arrive any more.
        send, *looks = order.attempts
        assert {(each["action"], each["verdict"]) for each in looks} == {("look_up_transfer", "absent")}
        assert (looks[-1]["started_at"] - send["finished_at"]).total_seconds() >= QUIET


def test_of_a_part_refunded_while_it_is_sent_the_seller_keeps_the_rest(run: Run) -> None:
    order = run["paidinpart"]

    (payment,), (reversal,) = order.payments, order.reversals
    assert (payment.amount, reversal.amount, len(order.sends)) == (1000, 300, 1)
    assert [(each["amount"], each["status"]) for each in order.rows] == [(700, "completed"), (300, "reversed")]
    assert {each["stripe_transfer_id"] for each in order.rows} == {payment.transfer}


def test_every_refund_has_all_that_it_asked_for(run: Run, server_address: ServerAddress) -> None:
    with closing(open_database(server_address.dsn("end_to_end_sends"))) as db:
        for name in REFUNDED:
            asked = 300 if name == "paidinpart" else 1000
            assert request_lines(db, f"re_{name}") == [(f"key-{name}", asked, asked, 0)]


def test_what_the_rows_say_is_what_the_ledger_says(run: Run) -> None:
    for name, order in run.items():
        kept = sum(each["amount"] for each in order.rows if each["status"] == "completed")
        moved = sum(each.moved for each in order.payments) - sum(each.moved for each in order.reversals)
        assert (moved, len(order.payments) <= 1) == (kept, True), name
        # Every call at Stripe is an attempt in the database.
        sends = [each["idempotency_key"] for each in order.attempts if each["action"] == "send"]
        assert (sends, {each["kind"] for each in order.attempts}) == (order.keys, {"call"}), name


def test_the_database_has_nothing_to_complain_of(run: Run, server_address: ServerAddress) -> None:
    with closing(open_database(server_address.dsn("end_to_end_sends"))) as db:
        db.execute("update marketplace.retry_policy set quiet = '1 hour' where verdict = 'unknown'")
        assert value(db, "select count(*) from marketplace.self_check()") == 0


@pytest.fixture
def start_runner(dsn: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(dsn, simulator.base_url, tmp_path) as start:
        yield start


def test_after_a_killed_runner_the_next_one_looks_and_does_not_send_twice(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    moments = ("before", "after", "refunded")
    set_delays(db, "throttled", "100 ms")
    set_delays(db, "unknown", "100 ms")
    db.execute("update marketplace.retry_policy set quiet = '500 ms' where verdict = 'unknown'")
    simulator.fund(3000, "usd")
    for moment in moments:
        match = {"method": "POST", "destination": f"acct_{moment}"}
        simulator.add_fault("hold", name=moment, when="before" if moment == "before" else "after", match=match)
    killed = start_runner("killed")
    order_payouts(db, simulator, *moments)
    for moment in moments:
        simulator.wait_for_held(moment)

    killed.send(signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    refund(db, "refunded")
    db.execute("update marketplace.seller_transfers set lease_expires_at = clock_timestamp()")
    start_runner("other")
    # Its requests live on at Stripe, and one is executed only now, while the other runner is at it too.
    wait_until(lambda: len(sends_to(simulator, "before")) == 2, "the other runner sends again what it did not find")
    simulator.release()
    wait_until(lambda: open_rows(db) == 0, "the other runner has finished all")

    assert statuses(db, *moments) == ["completed", "completed", "reversed"]
    for moment in moments:
        (payment,) = payments_to(simulator, moment)
        assert transfer_of(db, moment)["stripe_transfer_id"] == payment.transfer
        assert len({each.idempotency_key for each in sends_to(simulator, moment)}) == 1
        lost, looked, *_ = attempts_of(db, moment)
        assert (lost["kind"], lost["worker"], lost["verdict"]) == ("lost_lease", "killed", "unknown")
        assert (looked["action"], looked["worker"]) == ("look_up_transfer", "other")
    assert [len(sends_to(simulator, moment)) for moment in moments[1:]] == [1, 1]


def test_where_slots_are_short_what_is_to_come_back_goes_before_what_is_to_go_out(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    simulator.fund(3000, "usd")
    order_payouts(db, simulator, "out1", "out2", "out3")  # due before the others
    refunded(db, simulator, "back1", "back2", "back3")

    start_runner(slots=1)
    wait_until(lambda: open_rows(db) == 0, "all is done")

    paths = [each.path.rpartition("/")[2] for each in simulator.requests(method="POST")]
    assert paths == [*["reversals"] * 3, *["transfers"] * 3]


def test_runners_can_be_split_by_the_kind_of_work(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    simulator.fund(2000, "usd")
    (paid,) = pay_sellers(db, simulator, "back")
    # The one that only sends begins, and has nothing left to do before the other one is there.
    start_runner("sends", only="transfers", poll_seconds=300)
    refund(db, "back")
    order_payouts(db, simulator, "out1", "out2")
    wait_until(lambda: statuses(db, "out1", "out2") == ["completed"] * 2, "both are sent")
    assert (statuses(db, "back"), calls_for(simulator, paid)) == (["reversal_pending"], [])

    start_runner("reverses", only="reversals")
    wait_until(lambda: open_rows(db) == 0, "all is done")

    workers = rows(db, "select distinct action, worker from marketplace.transfer_attempts order by action")
    assert [(each["action"], each["worker"]) for each in workers] == [("reverse", "reverses"), ("send", "sends")]
