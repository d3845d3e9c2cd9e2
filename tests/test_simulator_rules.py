"""Which requests the simulator's fault rules and limits go to, and how often."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.sandbox.simulator import SimulatorClient, StripeAnswer

SELLER = "acct_1Seller"


@pytest.fixture
def transfer(simulator: SimulatorClient) -> str:
    return simulator.create_transfer(SELLER, 1000, "usd")


def reverse(
    simulator: SimulatorClient, transfer: str, amount: int = 100, key: str | None = "key-1", **metadata: str
) -> StripeAnswer:
    """Reverse some of a transfer under a key."""
    params: dict[str, object] = {"amount": amount}
    params |= {f"metadata[{name}]": value for name, value in metadata.items()}
    return simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", params, idempotency_key=key)


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({}, True),
        ({"method": "POST"}, True),
        ({"method": "GET"}, False),
        ({"path": "/reversals$"}, True),
        ({"path": "^/v1/charges"}, False),
        ({"idempotency_key": "^key-"}, True),
        ({"idempotency_key": "other"}, False),
        ({"amount": 100}, True),
        ({"amount": 10}, False),
        ({"metadata": {"order": "17"}}, True),
        ({"metadata": {"order": "18"}}, False),
        ({"metadata": {"order": "17", "more": "x"}}, False),
        ({"transfer": "tr_other"}, False),
        ({"destination": SELLER}, False),
        ({"method": "POST", "amount": 100, "metadata": {"order": "18"}}, False),
    ],
)
def test_a_rule_is_for_the_requests_that_fit_all_of_its_match(
    simulator: SimulatorClient, transfer: str, match: dict[str, object], hit: bool
) -> None:
    simulator.add_fault("error", match=match, status=418)
    assert reverse(simulator, transfer, order="17").status == (418 if hit else 200)


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"path": "^/v1/transfers$"}, "send and list"),
        ({"destination": SELLER}, "send and list"),
        ({"destination": SELLER, "method": "POST"}, "send"),
        ({"destination": SELLER, "method": "GET"}, "list"),
        ({"destination": "acct_1Other"}, ""),
        ({"amount": 100, "metadata": {"order": "17"}, "idempotency_key": "^transfer:"}, "send"),
    ],
)
def test_a_rule_can_be_for_sends_or_for_their_list(
    simulator: SimulatorClient, match: dict[str, object], hit: str
) -> None:
    simulator.create_account(SELLER)
    simulator.fund(100, "usd")
    simulator.add_fault("error", match=match, status=418, times=None)
    params = {"amount": 100, "currency": "usd", "destination": SELLER, "metadata[order]": "17"}

    sent = simulator.stripe("POST", "/v1/transfers", params, idempotency_key="transfer:1").status
    listed = simulator.stripe("GET", "/v1/transfers", {"destination": SELLER}).status

    assert (sent, listed) == (418 if "send" in hit else 200, 418 if "list" in hit else 200)


def test_rules_are_applied_as_often_as_they_say_and_the_first_that_fits_wins(
    simulator: SimulatorClient, transfer: str
) -> None:
    twice = simulator.add_fault("error", times=2, status=501, match={"transfer": transfer})
    always = simulator.add_fault("error", times=None, status=502)
    statuses = [reverse(simulator, transfer, key=None).status for _ in range(5)]
    assert statuses == [501, 501, 502, 502, 502]
    assert {rule["id"]: rule["applied"] for rule in simulator.faults()} == {twice: 2, always: 3}
    simulator.clear_faults(always)
    assert reverse(simulator, transfer, key=None).status == 200
    assert [entry.fault for entry in simulator.requests(method="POST")] == [twice, twice, always, always, always, None]


def test_a_probability_is_drawn_the_same_way_for_the_same_seed(simulator: SimulatorClient) -> None:
    def draw(seed: int) -> list[int]:
        simulator.clear_faults()
        simulator.add_fault("error", times=None, probability=0.5, seed=seed, status=500)
        return [simulator.stripe("GET", "/v1/balance").status for _ in range(30)]

    first = draw(1)
    assert set(first) == {200, 500}
    assert draw(1) == first
    assert draw(2) != first


def test_a_fault_in_execution_passes_over_what_is_replayed(simulator: SimulatorClient, transfer: str) -> None:
    assert reverse(simulator, transfer).status == 200
    simulator.add_fault("error_after")
    again = reverse(simulator, transfer)
    assert (again.status, again.replayed) == (200, True)
    assert simulator.faults()[0]["applied"] == 0


def test_error_after_leaves_a_refusal_as_it_is(simulator: SimulatorClient) -> None:
    simulator.add_fault("error_after")
    assert reverse(simulator, "tr_nope").status == 404


def test_parallel_writes_to_one_transfer_are_429_lock_timeout(simulator: SimulatorClient, transfer: str) -> None:
    other = simulator.create_transfer(SELLER, 10, "usd")
    simulator.add_fault("hold", name="stop", match={"transfer": transfer})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reverse, simulator, transfer)
        simulator.wait_for_held("stop")
        locked = reverse(simulator, transfer, key="key-2")
        assert (locked.status, locked.error["code"]) == (429, "lock_timeout")
        assert locked.error["message"].startswith("This object cannot be accessed right now because another API")
        assert "stripe-rate-limited-reason" not in locked.headers
        assert simulator.stripe("GET", f"/v1/transfers/{transfer}").status == 200
        assert reverse(simulator, other, 10, key="key-3").status == 200
        simulator.set_limits(None, lock_timeouts=False)
        assert reverse(simulator, transfer, key="key-4").status == 200
        simulator.release()
        assert first.result(5).status == 200
    answer = reverse(simulator, transfer, key="key-2")
    assert (answer.status, answer.replayed) == (200, False)


def test_the_rate_limit_lets_a_burst_through_and_refuses_the_rest(simulator: SimulatorClient) -> None:
    simulator.set_limits(0.001, burst=3)
    answers = [simulator.stripe("GET", "/v1/balance") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[3].error["code"] == "rate_limit"
    assert answers[3].headers["stripe-rate-limited-reason"] == "global-rate"
    assert "retry-after" not in answers[3].headers
    simulator.set_limits(1000)
    simulator.wait_until(lambda: simulator.stripe("GET", "/v1/balance").status == 200, "tokens to come back")
