"""Each way the simulator can fail: what the client gets, and what the ledger says really happened."""

import http.client
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.sandbox.simulator import ControlRefused, LoggedRequest, SimulatorClient, StripeAnswer

SELLER = "acct_1Seller"


@pytest.fixture
def transfer(simulator: SimulatorClient) -> str:
    return simulator.create_transfer(SELLER, 1000, "usd")


def reverse(simulator: SimulatorClient, transfer: str, amount: int = 100, key: str | None = "key-1") -> StripeAnswer:
    """Reverse some of a transfer under a key."""
    path = f"/v1/transfers/{transfer}/reversals"
    return simulator.stripe("POST", path, {"amount": amount}, idempotency_key=key)


def reversals(simulator: SimulatorClient) -> int:
    """How many reversals there have really been."""
    return len(simulator.ledger(kind="reversal"))


def last_request(simulator: SimulatorClient) -> LoggedRequest:
    """The newest entry of the request log."""
    return simulator.requests()[-1]


def test_error_answers_what_it_is_told_and_executes_nothing(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault(
        "error",
        status=402,
        type="card_error",
        code="insufficient_funds",
        message="Not today.",
        param="amount",
        headers={"Stripe-Should-Retry": "false"},
    )
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.headers["stripe-should-retry"]) == (402, "false")
    assert answer.error == {
        "type": "card_error",
        "code": "insufficient_funds",
        "doc_url": "https://stripe.com/docs/error-codes/insufficient-funds",
        "message": "Not today.",
        "param": "amount",
    }
    assert reversals(simulator) == 0
    entry = last_request(simulator)
    assert (entry.status, entry.executed, entry.replayed, entry.delivered) == (402, False, False, "whole")


def test_drop_before_closes_the_connection_and_executes_nothing(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("drop_before")
    with pytest.raises(http.client.RemoteDisconnected):
        reverse(simulator, transfer)
    assert reversals(simulator) == 0
    entry = last_request(simulator)
    assert (entry.status, entry.executed, entry.delivered) == (None, False, "none")
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.replayed) == (200, False)


def test_drop_after_has_executed_and_the_key_knows(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("drop_after")
    with pytest.raises(http.client.RemoteDisconnected):
        reverse(simulator, transfer)
    assert reversals(simulator) == 1
    entry = last_request(simulator)
    assert (entry.status, entry.executed, entry.delivered) == (None, True, "none")
    again = reverse(simulator, transfer)
    assert (again.status, again.replayed) == (200, True)
    assert last_request(simulator).replayed
    assert reversals(simulator) == 1


def test_error_after_has_executed_and_answers_500(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("error_after")
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.error["type"]) == (500, "api_error")
    assert reversals(simulator) == 1
    assert simulator.balances()[SELLER] == {"usd": 900}


def test_truncated_has_executed_and_sends_half(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("truncated")
    with pytest.raises(http.client.IncompleteRead) as broken:
        reverse(simulator, transfer)
    whole = reverse(simulator, transfer).body
    assert whole.startswith(broken.value.partial)
    assert 0 < len(broken.value.partial) < len(whole)
    assert broken.value.expected == len(whole) - len(broken.value.partial)
    assert reversals(simulator) == 1
    assert simulator.requests(method="POST")[0].delivered == "half"


@pytest.mark.parametrize("committed", [True, False])
def test_hang_body_stops_in_the_middle_until_the_client_goes(
    simulator: SimulatorClient, transfer: str, committed: bool
) -> None:
    simulator.add_fault("hang_body", committed=committed)
    impatient = SimulatorClient(simulator.base_url, timeout_seconds=0.2)
    with pytest.raises(TimeoutError):
        reverse(impatient, transfer)
    simulator.wait_until(
        lambda: [entry.finished_at is not None for entry in simulator.requests()] == [True], "the end of the request"
    )
    entry = last_request(simulator)
    assert (entry.executed, entry.delivered) == (committed, "half")
    assert reversals(simulator) == int(committed)
    assert reverse(simulator, transfer).replayed is committed


def test_hang_body_ends_at_its_bound(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("hang_body", seconds=0.1)
    with pytest.raises(http.client.IncompleteRead):
        reverse(simulator, transfer)


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay_waits_before_executing_or_after_committing(simulator: SimulatorClient, transfer: str, when: str) -> None:
    simulator.add_fault("delay", seconds=0.3, when=when)
    assert reverse(simulator, transfer).status == 200
    request, executed_at = last_request(simulator), simulator.ledger(kind="reversal")[0].monotonic
    assert request.finished_monotonic is not None
    before, after = executed_at - request.arrived_monotonic, request.finished_monotonic - executed_at
    assert (before if when == "before" else after) >= 0.3


def test_what_is_under_way_is_executed_though_its_client_has_gone(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("hold", name="stop")
    impatient = SimulatorClient(simulator.base_url, timeout_seconds=0.05)
    with pytest.raises(TimeoutError):
        reverse(impatient, transfer)
    simulator.wait_for_held("stop")
    assert reversals(simulator) == 0
    simulator.release("stop")
    simulator.wait_until(lambda: reversals(simulator) == 1, "the reversal")


def test_redirect_leads_elsewhere(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("redirect", location=f"/v1/transfers/{transfer}")
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.headers["location"]) == (302, f"/v1/transfers/{transfer}")
    assert reversals(simulator) == 0


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "application/json", "[1,2]"),
        (200, "text/html", "<html>ok</html>"),
        (400, "application/json", '{"error":"x"}'),
        (200, "application/json", ""),
    ],
)
def test_garbage_is_sent_as_given(
    simulator: SimulatorClient, transfer: str, status: int, content_type: str, body: str
) -> None:
    simulator.add_fault("garbage", status=status, content_type=content_type, body=body)
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.headers["content-type"], answer.body) == (status, content_type, body.encode())
    assert reversals(simulator) == 0


def test_a_pending_reversal_moves_money_when_it_succeeds(simulator: SimulatorClient, transfer: str) -> None:
    simulator.fund(-1000, "usd", account=SELLER)  # what an ordinary reversal would be refused for
    simulator.add_fault("pending_reversal")
    made = reverse(simulator, transfer, 400).json()
    assert made["status"] == "pending"
    assert simulator.stripe("GET", f"/v1/transfers/{transfer}").json()["amount_reversed"] == 400
    assert simulator.balances()[SELLER] == {"usd": 0}
    with pytest.raises(ControlRefused, match="too low"):
        simulator.settle_reversal(made["id"], "succeeded")
    simulator.fund(1000, "usd", account=SELLER)
    simulator.settle_reversal(made["id"], "succeeded")
    with pytest.raises(ControlRefused, match="is succeeded"):
        simulator.settle_reversal(made["id"], "failed")
    found = simulator.stripe("GET", f"/v1/transfers/{transfer}/reversals/{made['id']}").json()
    assert found["status"] == "succeeded"
    assert simulator.balances()[SELLER] == {"usd": 600}
    entries = [entry for entry in simulator.ledger() if entry.reversal == made["id"]]
    assert [(entry.kind, entry.status, entry.amount, entry.moved) for entry in entries] == [
        ("reversal", "pending", 400, 0),
        ("reversal_status", "succeeded", 400, 400),
    ]


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_pending_reversal_that_fails_gives_its_share_back(
    simulator: SimulatorClient, transfer: str, status: str
) -> None:
    simulator.add_fault("pending_reversal")
    made = reverse(simulator, transfer, 1000).json()
    assert reverse(simulator, transfer, key=None).error["message"].endswith("is already fully reversed.")
    simulator.settle_reversal(made["id"], "failed" if status == "failed" else "canceled")
    assert simulator.stripe("GET", f"/v1/transfers/{transfer}").json()["amount_reversed"] == 0
    assert simulator.balances()[SELLER] == {"usd": 1000}
    assert reverse(simulator, transfer, 1000, key=None).status == 200


def test_execute_late_arrives_on_command(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("execute_late")
    with pytest.raises(http.client.RemoteDisconnected):
        reverse(simulator, transfer)
    [put_off] = simulator.late_requests()
    assert reversals(simulator) == 0
    assert simulator.run_late(put_off) == 1
    simulator.wait_until(lambda: reversals(simulator) == 1, "the late reversal")
    entry = last_request(simulator)
    assert (entry.late_of, entry.executed, entry.status, entry.delivered) == (put_off, True, 200, "none")
    assert simulator.ledger(kind="reversal")[0].request == entry.seq
    assert simulator.late_requests() == []
    assert reverse(simulator, transfer).replayed


def test_execute_late_arrives_by_itself_after_its_seconds(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("execute_late", seconds=0.05)
    with pytest.raises(http.client.RemoteDisconnected):
        reverse(simulator, transfer)
    simulator.wait_until(lambda: reversals(simulator) == 1, "the late reversal")


def test_what_arrives_late_after_its_retry_is_replayed_while_the_key_lives(
    simulator: SimulatorClient, transfer: str
) -> None:
    simulator.add_fault("execute_late", times=2)
    for _ in range(2):
        with pytest.raises(http.client.RemoteDisconnected):
            reverse(simulator, transfer)
    assert reverse(simulator, transfer).status == 200
    first, second = simulator.late_requests()
    simulator.run_late(first)
    simulator.wait_until(lambda: last_request(simulator).late_of == first, "the first to arrive")
    assert last_request(simulator).replayed
    assert reversals(simulator) == 1
    simulator.forget_idempotency_keys()
    simulator.run_late(second)
    simulator.wait_until(lambda: reversals(simulator) == 2, "the second to be executed anew")


def test_holds_stop_requests_by_name_and_let_them_go_in_order(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("hold", name="before", times=2)
    simulator.add_fault("hold", name="after", when="after", seconds=60)
    others = simulator.create_transfers([{"destination": SELLER, "amount": 10, "currency": "usd"}] * 2)
    with ThreadPoolExecutor(3) as pool:
        calls = []
        for number, (each, name) in enumerate(zip([transfer, *others], ["before", "before", "after"], strict=True)):
            calls.append(pool.submit(reverse, simulator, each, 10, f"key-{number}"))
            simulator.wait_for_held(name, count=1 + number % 2)
        assert [held["idempotency_key"] for held in simulator.held("before")] == ["key-0", "key-1"]
        assert simulator.held("after")[0]["stage"] == "after"
        assert [entry.transfer for entry in simulator.ledger(kind="reversal")] == [others[1]]
        assert simulator.requests(method="POST")[0].finished_at is None

        assert simulator.release("before", 1) == 1
        assert calls[0].result(5).status == 200
        assert len(simulator.held("before")) == 1
        assert simulator.release() == 2
        assert {call.result(5).status for call in calls[1:]} == {200}
    assert reversals(simulator) == 3


def test_a_hold_that_goes_on_leaves_the_request_to_the_next_rule(simulator: SimulatorClient, transfer: str) -> None:
    other = simulator.create_transfer(SELLER, 1000, "usd")
    for name, each, when in (("refused", transfer, "before"), ("lost", other, "after")):
        simulator.add_fault("hold", name=name, when=when, go_on=True, match={"transfer": each})
    simulator.add_fault("error", status=402, match={"transfer": transfer})
    simulator.add_fault("drop_after", match={"transfer": other})
    with ThreadPoolExecutor(2) as pool:
        refused, lost = pool.submit(reverse, simulator, transfer), pool.submit(reverse, simulator, other, 100, "key-2")
        for name in ("refused", "lost"):
            simulator.wait_for_held(name)
        assert [entry.transfer for entry in simulator.ledger(kind="reversal")] == [other]
        simulator.release()
        assert refused.result(5).status == 402
        with pytest.raises(http.client.RemoteDisconnected):
            lost.result(5)
    # Each rule is used up: the next request goes through.
    assert reverse(simulator, transfer, key="key-3").status == 200


def test_a_hold_ends_at_its_bound(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("hold", name="forgotten", seconds=0.05)
    assert reverse(simulator, transfer).status == 200
    assert simulator.held() == []
