"""The simulator's idempotency keys: what is stored and replayed, what is not, and for how long."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.sandbox.simulator import LIVE_KEY, SimulatorClient, StripeAnswer

SELLER = "acct_1Seller"


@pytest.fixture
def transfer(simulator: SimulatorClient) -> str:
    return simulator.create_transfer(SELLER, 1000, "usd")


def reverse(simulator: SimulatorClient, transfer: str, amount: int = 100, key: str = "key-1") -> StripeAnswer:
    """Reverse some of a transfer under a key."""
    path = f"/v1/transfers/{transfer}/reversals"
    return simulator.stripe("POST", path, {"amount": amount}, idempotency_key=key)


def reversals(simulator: SimulatorClient) -> int:
    """How many reversals there have really been."""
    return len(simulator.ledger(kind="reversal"))


def test_a_success_is_replayed_and_not_executed_again(simulator: SimulatorClient, transfer: str) -> None:
    first, again = reverse(simulator, transfer), reverse(simulator, transfer)
    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body
    assert (first.replayed, again.replayed) == (False, True)
    assert again.headers["original-request"] == first.headers["request-id"]
    assert again.headers["request-id"] != first.headers["request-id"]
    assert reversals(simulator) == 1


def test_a_refusal_in_execution_is_replayed_when_it_would_succeed_now(
    simulator: SimulatorClient, transfer: str
) -> None:
    simulator.fund(-1000, "usd", account=SELLER)
    assert reverse(simulator, transfer).error["code"] == "balance_insufficient"
    simulator.fund(1000, "usd", account=SELLER)
    again = reverse(simulator, transfer)
    assert (again.status, again.error["code"], again.replayed) == (400, "balance_insufficient", True)
    assert reverse(simulator, transfer, key="key-2").status == 200


def test_a_missing_transfer_is_replayed_too(simulator: SimulatorClient) -> None:
    assert reverse(simulator, "tr_nope").status == 404
    assert reverse(simulator, "tr_nope").replayed


def test_a_500_is_replayed_with_or_without_its_effect(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("error_after")
    simulator.add_fault("error", status=500, type="api_error", stored=True)
    for key, made in (("with", 1), ("without", 1)):
        first, again = reverse(simulator, transfer, key=key), reverse(simulator, transfer, key=key)
        assert (first.status, again.status, first.replayed, again.replayed) == (500, 500, False, True)
        assert first.body == again.body
        assert first.error["type"] == "api_error"
        assert reversals(simulator) == made


def test_other_parameters_under_a_used_key_are_an_idempotency_error(simulator: SimulatorClient, transfer: str) -> None:
    reverse(simulator, transfer, amount=100)
    other = reverse(simulator, transfer, amount=101)
    assert (other.status, other.error["type"]) == (400, "idempotency_error")
    assert other.error["message"] == (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        "Try using a key other than 'key-1' if you meant to execute a different request."
    )
    assert reverse(simulator, transfer, amount=100).replayed
    assert reversals(simulator) == 1


def test_another_endpoint_under_a_used_key_is_an_idempotency_error(simulator: SimulatorClient, transfer: str) -> None:
    reverse(simulator, transfer)
    other = simulator.create_transfer(SELLER, 1000, "usd")
    answer = reverse(simulator, other)
    assert (answer.status, answer.error["type"]) == (400, "idempotency_error")
    assert answer.error["message"].startswith(
        "Keys for idempotent requests can only be used for the same endpoint they were first used for "
        f"('/v1/transfers/{other}/reversals' vs '/v1/transfers/{transfer}/reversals')."
    )


def test_parameters_are_compared_by_what_they_say_not_by_their_order(simulator: SimulatorClient, transfer: str) -> None:
    path = f"/v1/transfers/{transfer}/reversals"
    first = {"amount": 1, "metadata[a]": "1", "metadata[b]": "2"}
    second = {"metadata[b]": "2", "metadata[a]": "1", "amount": 1}
    assert simulator.stripe("POST", path, first, idempotency_key="key-1").status == 200
    assert simulator.stripe("POST", path, second, idempotency_key="key-1").replayed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_key_in_flight_is_409_and_that_is_not_stored(simulator: SimulatorClient, transfer: str, when: str) -> None:
    simulator.add_fault("hold", name="stop", when=when)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reverse, simulator, transfer)
        simulator.wait_for_held("stop")
        assert reversals(simulator) == (0 if when == "before" else 1)
        meanwhile = reverse(simulator, transfer)
        assert (meanwhile.status, meanwhile.error["code"]) == (409, "idempotency_key_in_use")
        assert meanwhile.error["message"] == (
            "There is currently another in-progress request using this Idempotent Key (that probably means "
            "you submitted twice, and the other request is still going through): key-1. Please try again later."
        )
        assert simulator.release("stop") == 1
        assert first.result(5).status == 200
    assert reverse(simulator, transfer).replayed
    assert reversals(simulator) == 1


def test_other_parameters_beat_the_409_of_a_key_in_flight(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("hold", name="stop")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reverse, simulator, transfer)
        simulator.wait_for_held("stop")
        assert reverse(simulator, transfer, amount=7).error["type"] == "idempotency_error"
        simulator.release()
        assert first.result(5).status == 200


def test_a_401_is_not_stored(simulator: SimulatorClient, transfer: str) -> None:
    simulator.revoke_key()
    assert reverse(simulator, transfer).status == 401
    simulator.restore_key()
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.replayed) == (200, False)


def test_a_429_is_not_stored(simulator: SimulatorClient, transfer: str) -> None:
    simulator.set_limits(0.001)
    assert simulator.stripe("GET", "/v1/balance").status == 200
    limited = reverse(simulator, transfer)
    assert (limited.status, limited.error["code"]) == (429, "rate_limit")
    simulator.set_limits(None)
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.replayed) == (200, False)


def test_a_bad_parameter_is_not_stored(simulator: SimulatorClient, transfer: str) -> None:
    path = f"/v1/transfers/{transfer}/reversals"
    assert simulator.stripe("POST", path, {"colour": "red"}, idempotency_key="key-1").status == 400
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.replayed) == (200, False)


def test_an_error_from_before_execution_is_not_stored(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("error", status=503, type="api_error")
    assert reverse(simulator, transfer).status == 503
    answer = reverse(simulator, transfer)
    assert (answer.status, answer.replayed) == (200, False)


def test_keys_are_forgotten_after_24_hours_and_not_before(simulator: SimulatorClient, transfer: str) -> None:
    reverse(simulator, transfer)
    simulator.advance_clock(24 * 3600 - 60)
    assert reverse(simulator, transfer).replayed
    simulator.advance_clock(61)
    anew = reverse(simulator, transfer)
    assert (anew.status, anew.replayed) == (200, False)
    assert reversals(simulator) == 2


def test_keys_are_forgotten_on_command(simulator: SimulatorClient, transfer: str) -> None:
    reverse(simulator, transfer, key="key-1")
    reverse(simulator, transfer, key="key-2")
    assert simulator.forget_idempotency_keys("key-1") == 1
    assert not reverse(simulator, transfer, key="key-1").replayed
    assert reverse(simulator, transfer, key="key-2").replayed
    assert simulator.forget_idempotency_keys() == 2
    assert not reverse(simulator, transfer, key="key-2").replayed


def test_keys_are_forgotten_by_age_on_command(simulator: SimulatorClient, transfer: str) -> None:
    reverse(simulator, transfer, key="old")
    simulator.advance_clock(10)
    reverse(simulator, transfer, key="young")
    assert reverse(simulator, transfer, key="old").replayed  # which makes it no younger
    assert simulator.forget_idempotency_keys(older_than_seconds=10) == 1
    assert reverse(simulator, transfer, key="young").replayed
    assert not reverse(simulator, transfer, key="old").replayed


def test_keys_of_the_two_modes_do_not_meet(simulator: SimulatorClient) -> None:
    new = {"amount": 100, "currency": "usd", "destination": SELLER}
    for livemode in (False, True):
        simulator.create_account(SELLER, livemode=livemode)
        simulator.fund(100, "usd", livemode=livemode)
    assert simulator.stripe("POST", "/v1/transfers", new, idempotency_key="k").json()["livemode"] is False
    live = simulator.stripe("POST", "/v1/transfers", new, idempotency_key="k", api_key=LIVE_KEY)
    assert live.json()["livemode"] is True


def test_a_key_has_at_most_255_characters(simulator: SimulatorClient, transfer: str) -> None:
    assert reverse(simulator, transfer, key="k" * 256).status == 400
    assert reversals(simulator) == 0
    assert reverse(simulator, transfer, key="k" * 255).status == 200


def test_without_a_key_every_request_is_executed(simulator: SimulatorClient, transfer: str) -> None:
    for _ in range(2):
        path = f"/v1/transfers/{transfer}/reversals"
        assert simulator.stripe("POST", path, {"amount": 1}).status == 200
    assert reversals(simulator) == 2


def test_a_get_takes_no_notice_of_a_key(simulator: SimulatorClient, transfer: str) -> None:
    def look() -> StripeAnswer:
        return simulator.stripe("GET", f"/v1/transfers/{transfer}", idempotency_key="key-1")

    assert look().json()["amount_reversed"] == 0
    reverse(simulator, transfer, amount=5)
    assert look().json()["amount_reversed"] == 5


def test_of_many_at_once_with_one_key_exactly_one_is_executed(simulator: SimulatorClient, transfer: str) -> None:
    together = threading.Barrier(8)

    def attempt(_: int) -> StripeAnswer:
        together.wait(5)
        return reverse(simulator, transfer)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(8)))
    assert {answer.status for answer in answers} <= {200, 409}
    assert sum(answer.status == 200 and not answer.replayed for answer in answers) == 1
    assert reversals(simulator) == 1
