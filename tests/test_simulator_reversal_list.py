"""The simulator's way of telling what was taken back of a transfer: embedded, in pages, and with faults on the way."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runner.sandbox.simulator import LIVE_KEY, ControlRefused, SimulatorClient, StripeAnswer

SELLER = "acct_1Seller"


@pytest.fixture
def transfer(simulator: SimulatorClient) -> str:
    return simulator.create_transfer(SELLER, 1000, "usd")


def page(simulator: SimulatorClient, transfer: str, **params: object) -> dict[str, Any]:
    """Give one page of a transfer's reversals."""
    answer = simulator.stripe("GET", f"/v1/transfers/{transfer}/reversals", params)
    assert answer.status == 200
    body: dict[str, Any] = answer.json()
    assert (body["object"], body["url"]) == ("list", f"/v1/transfers/{transfer}/reversals")
    return body


def ids(body: dict[str, Any]) -> list[str]:
    return [each["id"] for each in body["data"]]


def test_many_reversals_are_made_by_one_command_as_by_somebody_else(simulator: SimulatorClient, transfer: str) -> None:
    first, second = simulator.create_reversals(
        transfer, [{"amount": 300, "metadata": {"by": "support"}}, {"amount": 200, "pending": True}]
    )

    newest, oldest = page(simulator, transfer)["data"]
    assert (oldest["id"], oldest["amount"], oldest["metadata"]) == (first, 300, {"by": "support"})
    assert (newest["id"], newest["amount"], newest["status"]) == (second, 200, "pending")
    assert "status" not in oldest
    body = simulator.stripe("GET", f"/v1/transfers/{transfer}").json()
    assert (body["amount_reversed"], body["reversed"]) == (500, False)
    assert simulator.balances()[SELLER] == {"usd": 700}
    assert [(entry.moved, entry.request) for entry in simulator.ledger(kind="reversal")] == [(300, None), (0, None)]


@pytest.mark.parametrize(
    ("taken_out", "amounts", "why"), [(0, [900, 101], "less left"), (1, [500, 500], "too low"), (0, [0], "amount")]
)
def test_reversals_that_cannot_all_be_made_are_not_made(
    simulator: SimulatorClient, transfer: str, taken_out: int, amounts: list[int], why: str
) -> None:
    simulator.fund(-taken_out, "usd", account=SELLER)
    with pytest.raises(ControlRefused, match=why):
        simulator.create_reversals(transfer, [{"amount": amount} for amount in amounts])
    with pytest.raises(ControlRefused, match="no such transfer"):
        simulator.create_reversals("tr_1Nothing", [])
    assert simulator.ledger(kind="reversal") == []


def test_a_page_has_what_limit_and_cursor_ask_for_and_says_whether_there_is_more(
    simulator: SimulatorClient, transfer: str
) -> None:
    made = simulator.create_reversals(transfer, [{"amount": 1}] * 101)[::-1]

    first = page(simulator, transfer, limit=100)
    last = page(simulator, transfer, limit=100, starting_after=made[99])
    assert (ids(first), first["has_more"]) == (made[:100], True)
    assert (ids(last), last["has_more"]) == (made[100:], False)
    assert ids(page(simulator, transfer)) == made[:10]
    exactly = page(simulator, transfer, limit=1, starting_after=made[99])
    assert (ids(exactly), exactly["has_more"]) == (made[100:], False)
    beyond = page(simulator, transfer, starting_after=made[100])
    assert (ids(beyond), beyond["has_more"]) == ([], False)
    before = page(simulator, transfer, limit=2, ending_before=made[3])
    assert (ids(before), before["has_more"]) == (made[1:3], True)


def test_a_page_shows_a_reversal_made_since_and_does_not_shift_for_it(
    simulator: SimulatorClient, transfer: str
) -> None:
    made = simulator.create_reversals(transfer, [{"amount": 1}] * 3)
    (newer,) = simulator.create_reversals(transfer, [{"amount": 1}])

    assert ids(page(simulator, transfer, starting_after=made[1])) == [made[0]]
    assert ids(page(simulator, transfer, limit=1)) == [newer]


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"limit": 0}, "parameter_invalid_integer", "limit"),
        ({"limit": 101}, "parameter_invalid_integer", "limit"),
        ({"limit": "many"}, "parameter_invalid_integer", "limit"),
        ({"starting_after": "trr_1Nothing"}, "resource_missing", "starting_after"),
        ({"ending_before": "trr_1Nothing"}, "resource_missing", "ending_before"),
        ({"created": 1}, "parameter_unknown", "created"),
    ],
)
def test_a_page_that_cannot_be_meant_is_refused(
    simulator: SimulatorClient, transfer: str, params: dict[str, object], code: str, param: str
) -> None:
    answer = simulator.stripe("GET", f"/v1/transfers/{transfer}/reversals", params)

    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param)


def test_a_reversal_of_another_transfer_is_no_cursor(simulator: SimulatorClient, transfer: str) -> None:
    other = simulator.create_transfer(SELLER, 1000, "usd")
    (elsewhere,) = simulator.create_reversals(other, [{"amount": 1}])

    answer = simulator.stripe("GET", f"/v1/transfers/{transfer}/reversals", {"starting_after": elsewhere})
    assert (answer.status, answer.error["code"]) == (400, "resource_missing")


@pytest.mark.parametrize("path", ["", "/reversals"])
def test_reading_with_the_wrong_key_is_refused_as_writing_is(
    simulator: SimulatorClient, transfer: str, path: str
) -> None:
    def read(api_key: str) -> StripeAnswer:
        return simulator.stripe("GET", f"/v1/transfers/{transfer}{path}", api_key=api_key)

    wrong_mode = read(LIVE_KEY)
    assert (wrong_mode.status, wrong_mode.error["code"]) == (404, "resource_missing")
    assert wrong_mode.error["message"] == (
        f"No such transfer: '{transfer}'; a similar object exists in test mode, but a live mode key was used to make "
        "this request."
    )
    assert read("sk_test_0123456789abcdefghijklmn").status == 401
    simulator.revoke_key(LIVE_KEY)
    assert (read(LIVE_KEY).status, read(LIVE_KEY).error["code"]) == (401, "api_key_expired")


# Faults on the way.


@pytest.fixture(params=["", "/reversals"], ids=["transfer", "list"])
def path(request: pytest.FixtureRequest, transfer: str) -> str:
    return f"/v1/transfers/{transfer}{request.param}"


def test_an_answer_to_a_reader_gets_lost_as_one_to_a_writer(simulator: SimulatorClient, path: str) -> None:
    whole = simulator.stripe("GET", path).body
    for action in ("drop_before", "drop_after"):
        simulator.add_fault(action, match={"method": "GET"})
        with pytest.raises(http.client.RemoteDisconnected):
            simulator.stripe("GET", path)
    simulator.add_fault("truncated", match={"method": "GET"})
    with pytest.raises(http.client.IncompleteRead) as broken:
        simulator.stripe("GET", path)
    assert whole.startswith(broken.value.partial)
    simulator.add_fault("hang_body", match={"method": "GET"}, seconds=0.1)
    with pytest.raises(http.client.IncompleteRead):
        simulator.stripe("GET", path)
    simulator.add_fault("garbage", match={"method": "GET"}, body="[1,2]")
    assert simulator.stripe("GET", path).body == b"[1,2]"
    simulator.add_fault("redirect", match={"method": "GET"}, location="/")
    assert simulator.stripe("GET", path).status == 302
    simulator.add_fault("error", match={"method": "GET"}, status=503, type="api_error")
    assert simulator.stripe("GET", path).status == 503
    assert simulator.stripe("GET", path).body == whole


@pytest.mark.parametrize(("when", "amounts"), [("before", [5]), ("after", [])])
def test_a_held_reader_sees_what_there_is_when_it_goes_on_or_what_there_was(
    simulator: SimulatorClient, transfer: str, when: str, amounts: list[int]
) -> None:
    simulator.add_fault("hold", name="stop", when=when, match={"method": "GET"})
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(page, simulator, transfer)
        simulator.wait_for_held("stop")
        simulator.create_reversals(transfer, [{"amount": 5}])
        simulator.release("stop")
        assert [each["amount"] for each in reading.result(5)["data"]] == amounts


def test_a_rule_can_let_some_requests_pass_first(simulator: SimulatorClient, transfer: str) -> None:
    simulator.add_fault("error", match={"method": "GET", "path": "/reversals$"}, skip=1, times=2, status=500)

    statuses = []
    for _ in range(5):
        assert simulator.stripe("GET", f"/v1/transfers/{transfer}").status == 200
        statuses.append(simulator.stripe("GET", f"/v1/transfers/{transfer}/reversals").status)
    assert statuses == [200, 500, 500, 200, 200]
    assert [(rule["skipped"], rule["applied"]) for rule in simulator.faults()] == [(1, 2)]


def test_a_list_can_be_bent(simulator: SimulatorClient, transfer: str) -> None:
    made = simulator.create_reversals(transfer, [{"amount": 1}] * 4)[::-1]

    def bent(**how: Any) -> tuple[list[str], bool]:
        simulator.add_fault("bend_list", **how)
        body = page(simulator, transfer, limit=2, starting_after=made[0])
        return ids(body), body["has_more"]

    assert bent() == (made[1:3], True)
    assert bent(hide=1) == (made[2:3], True)
    assert bent(hide=100, has_more=False) == ([], False)
    assert bent(has_more=False) == (made[1:3], False)
    assert bent(from_start=True) == (made[:2], True)
    simulator.add_fault("bend_list", hide=1)
    assert simulator.stripe("GET", f"/v1/transfers/{transfer}").json()["id"] == transfer
