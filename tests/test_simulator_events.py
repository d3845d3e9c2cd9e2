"""The simulator's events: one for every change, as its object was then, and the list they are read from again."""

import http.client
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import stripe

from runner.sandbox.simulator import LIVE_KEY, TEST_KEY, SimulatorClient, events
from runner.sandbox.simulator.ledger import Clock

ANN = "acct_1Ann"


def listed(simulator: SimulatorClient, api_key: str = TEST_KEY, **params: object) -> list[dict[str, Any]]:
    """One page of the list of events."""
    answer = simulator.stripe("GET", "/v1/events", params, api_key=api_key)
    assert answer.status == 200, answer.body
    page: dict[str, Any] = answer.json()
    assert (page["object"], page["url"]) == ("list", "/v1/events")
    events: list[dict[str, Any]] = page["data"]
    return events


def told(simulator: SimulatorClient, act: Callable[[], object]) -> list[tuple[str, dict[str, Any]]]:
    """Type and object of the events that `act` makes, oldest first."""
    before = {event["id"] for event in listed(simulator, limit=100)}
    act()
    new = [event for event in listed(simulator, limit=100) if event["id"] not in before]
    return [(event["type"], event["data"]["object"]) for event in new][::-1]


def types(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [event_type for event_type, _ in events]


def test_an_event_has_every_field_and_says_whose_request_it_was(simulator: SimulatorClient) -> None:
    charge = simulator.create_charge(1000, "usd")
    refund = simulator.stripe("POST", "/v1/refunds", {"charge": charge, "amount": 400}, idempotency_key="key-1")

    refunded, created, succeeded = listed(simulator)
    assert set(created) == {
        "id",
        "object",
        "api_version",
        "created",
        "data",
        "livemode",
        "pending_webhooks",
        "request",
        "type",
    }
    assert (created["object"], created["type"], created["livemode"]) == ("event", "refund.created", False)
    assert (created["id"][:5], created["pending_webhooks"]) == ("evt_1", 0)
    assert created["data"] == {"object": refund.json()}
    assert created["request"] == {"id": refund.headers["request-id"], "idempotency_key": "key-1"}
    assert (refunded["type"], refunded["request"]) == ("charge.refunded", created["request"])
    assert refunded["data"]["previous_attributes"] == {"amount_refunded": 0}
    assert (succeeded["type"], succeeded["request"]) == ("charge.succeeded", {"id": None, "idempotency_key": None})
    assert simulator.stripe("GET", f"/v1/events/{created['id']}").json() == created


def test_a_refund_is_told_from_birth_to_its_late_failure(simulator: SimulatorClient) -> None:
    charge = simulator.create_charge(1000, "usd", transfer_group="order-17")
    refunds: list[str] = []

    born = told(simulator, lambda: refunds.append(simulator.refund(charge, status="pending")))
    assert types(born) == ["refund.created", "charge.refunded"]
    assert [each["object"] for _, each in born] == ["refund", "charge"]
    assert born[0][1]["status"] == "pending"
    shown = born[1][1]
    assert (shown["amount_refunded"], shown["refunded"], shown["transfer_group"]) == (1000, True, "order-17")
    assert "refunds" not in shown  # since 2022-11-15

    done = told(simulator, lambda: simulator.settle_refund(refunds[0], "succeeded"))
    assert types(done) == ["refund.updated", "charge.refund.updated"]
    assert [each["status"] for _, each in done] == ["succeeded"] * 2

    failed = told(simulator, lambda: simulator.settle_refund(refunds[0], "failed"))
    assert types(failed) == ["refund.updated", "charge.refund.updated", "refund.failed", "charge.updated"]
    assert [each["status"] for _, each in failed[:3]] == ["failed"] * 3
    assert failed[3][1]["amount_refunded"] == 0

    canceled = told(
        simulator, lambda: simulator.settle_refund(simulator.refund(charge, 1, status="requires_action"), "canceled")
    )
    assert types(canceled)[2:] == ["refund.updated", "charge.refund.updated", "charge.updated"]


def test_a_dispute_is_told_step_by_step(simulator: SimulatorClient) -> None:
    charge = simulator.create_charge(1000, "usd")
    disputes: list[str] = []

    opened = told(simulator, lambda: disputes.append(simulator.open_dispute(charge, 600)))
    assert types(opened) == ["charge.dispute.created", "charge.updated"]
    assert (opened[0][1]["status"], opened[1][1]["disputed"]) == ("needs_response", True)
    (taken,) = told(simulator, lambda: simulator.withdraw_funds(disputes[0]))
    (closed,) = told(simulator, lambda: simulator.close_dispute(disputes[0], "won"))
    (given_back,) = told(simulator, lambda: simulator.reinstate_funds(disputes[0]))
    steps = [
        (step, each["status"], [moved["amount"] for moved in each["balance_transactions"]])
        for step, each in (taken, closed, given_back)
    ]
    assert steps == [
        ("charge.dispute.funds_withdrawn", "needs_response", [-600]),
        ("charge.dispute.closed", "won", [-600]),
        ("charge.dispute.funds_reinstated", "won", [-600, 600]),
    ]


def test_transfers_and_reversals_are_told_whoever_makes_them_and_as_they_were_then(simulator: SimulatorClient) -> None:
    simulator.create_account(ANN)
    simulator.fund(1000, "usd")
    params = {"amount": 1000, "currency": "usd", "destination": ANN, "metadata[transfer_key]": "order-17/1"}
    made: list[str] = []

    def send() -> None:
        made.append(simulator.stripe("POST", "/v1/transfers", params, idempotency_key="key-1").json()["id"])

    ((first_type, first),) = told(simulator, send)
    assert (first_type, first["id"], first["metadata"]) == (
        "transfer.created",
        made[0],
        {"transfer_key": "order-17/1"},
    )
    assert told(simulator, send) == []  # a replay changes nothing

    path = f"/v1/transfers/{made[0]}/reversals"
    ((partial_type, partial),) = told(simulator, lambda: simulator.stripe("POST", path, {"amount": 1}))
    assert (partial_type, partial["amount_reversed"], partial["reversed"]) == ("transfer.reversed", 1, False)

    simulator.create_reversals(made[0], [{"amount": 1}] * 11)
    ids = [each["id"] for each in simulator.stripe("GET", path, {"limit": 100}).json()["data"]]
    snapshots = [event["data"]["object"] for event in listed(simulator, type="transfer.reversed", limit=100)]
    assert [each["amount_reversed"] for each in snapshots] == list(range(12, 0, -1))
    for number, each in enumerate(snapshots):
        assert [embedded["id"] for embedded in each["reversals"]["data"]] == ids[number : number + 10]
        assert each["reversals"]["has_more"] == (number < 2)


def test_a_pending_reversal_is_shown_as_it_was_after_it_ended(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(ANN, 100, "usd")
    (pending,) = simulator.create_reversals(transfer, [{"amount": 60, "pending": True}])
    simulator.settle_reversal(pending, "failed")

    updated, reversed_, created = listed(simulator)
    assert [each["type"] for each in (updated, reversed_, created)] == [
        "transfer.updated",
        "transfer.reversed",
        "transfer.created",
    ]
    shown = [each["data"]["object"] for each in (updated, reversed_, created)]
    assert [each["amount_reversed"] for each in shown] == [0, 60, 0]
    statuses = [[embedded["status"] for embedded in each["reversals"]["data"]] for each in shown]
    assert statuses == [["failed"], ["pending"], []]


@pytest.mark.parametrize("action", ["drop_after", "error_after", "truncated"])
def test_what_happened_is_told_whatever_became_of_the_answer(simulator: SimulatorClient, action: str) -> None:
    transfer = simulator.create_transfer(ANN, 100, "usd")
    simulator.add_fault(action, match={"transfer": transfer})

    def reverse() -> None:
        with suppress(OSError, http.client.HTTPException):
            simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals")

    assert types(told(simulator, reverse)) == ["transfer.reversed"]


def test_what_is_refused_is_not_told(simulator: SimulatorClient) -> None:
    charge = simulator.create_charge(10, "usd")
    transfer = simulator.create_transfer(ANN, 100, "usd")

    def try_in_vain() -> None:
        simulator.stripe("POST", "/v1/refunds", {"charge": charge, "amount": 11})
        simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": 101})
        simulator.stripe("POST", "/v1/transfers", {"amount": 1, "currency": "usd", "destination": ANN})

    assert told(simulator, try_in_vain) == []


def test_a_page_has_what_filters_limit_and_cursor_ask_for_together(simulator: SimulatorClient) -> None:
    charge = simulator.create_charge(1000, "usd")
    simulator.advance_clock(1000)
    for _ in range(3):
        simulator.refund(charge, 1)
    everything = listed(simulator, limit=100)
    assert [event["type"] for event in everything] == ["charge.refunded", "refund.created"] * 3 + ["charge.succeeded"]
    ids = [event["id"] for event in everything]
    later, first = everything[0]["created"], everything[-1]["created"]
    assert 1000 <= later - first <= 1010

    def page(**params: object) -> tuple[list[int], bool]:
        body = simulator.stripe("GET", "/v1/events", params).json()
        return [ids.index(event["id"]) for event in body["data"]], body["has_more"]

    assert page(limit=2) == ([0, 1], True)
    assert page(limit=2, starting_after=ids[4]) == ([5, 6], False)
    assert page(limit=2, ending_before=ids[4]) == ([2, 3], True)
    assert page(type="refund.created") == ([1, 3, 5], False)
    assert page(type="charge.*", limit=2, starting_after=ids[0]) == ([2, 4], True)
    assert page(type="*") == (list(range(7)), False)
    assert page(type="refund") == ([], False)
    assert page(**{"types[0]": "charge.succeeded", "types[1]": "refund.created"}) == ([1, 3, 5, 6], False)
    assert page(**{"types[]": "charge.succeeded"}) == ([6], False)
    assert page(**{"created[lt]": first + 500}) == ([6], False)
    assert page(**{"created[gte]": later - 500, "type": "refund.created", "limit": 3}) == ([1, 3, 5], False)
    assert page(**{"created[lte]": first, "created[gte]": first}) == ([6], False)
    assert page(**{"created[gt]": later + 5}) == ([], False)


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"starting_after": "evt_1Nothing"}, "resource_missing", "starting_after"),
        ({"limit": 101}, "parameter_invalid_integer", "limit"),
        ({"type": "a", "types[]": "b"}, None, "types"),
        ({"types": "a"}, None, "types"),
        ({"delivery_success": "true"}, "parameter_unknown", "delivery_success"),
    ],
)
def test_a_page_that_cannot_be_meant_is_refused(
    simulator: SimulatorClient, params: dict[str, object], code: str | None, param: str
) -> None:
    answer = simulator.stripe("GET", "/v1/events", params)
    assert (answer.status, answer.error.get("code"), answer.error["param"]) == (400, code, param)


def test_events_are_kept_for_30_days_and_each_mode_has_its_own(simulator: SimulatorClient) -> None:
    simulator.create_charge(1, "usd")
    simulator.create_charge(2, "usd", livemode=True)
    (old,) = listed(simulator)
    (live,) = listed(simulator, api_key=LIVE_KEY)
    assert (old["livemode"], live["livemode"]) == (False, True)
    assert live["data"]["object"]["livemode"] is True

    simulator.advance_clock(29 * 24 * 3600)
    simulator.create_charge(3, "usd")
    assert [event["data"]["object"]["amount"] for event in listed(simulator)] == [3, 1]
    simulator.advance_clock(24 * 3600 + 10)
    assert [event["data"]["object"]["amount"] for event in listed(simulator)] == [3]
    assert simulator.stripe("GET", f"/v1/events/{old['id']}").status == 404


def test_of_too_many_events_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT_EVENTS", 3)
    announced: list[str] = []
    kept = events.Events(Clock(), livemode=False, announce=lambda event: announced.append(event.type))
    for number in range(5):
        kept.add(str(number), dict)

    oldest_first, by_id = kept.kept()
    assert [event.type for event in oldest_first] == [event.type for event in by_id.values()] == ["2", "3", "4"]
    assert announced == ["0", "1", "2", "3", "4"]


async def test_stripes_own_sdk_reads_them_page_by_page(
    simulator: SimulatorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    charge = simulator.create_charge(1000, "usd")
    refunds = [simulator.refund(charge, 1) for _ in range(5)]
    http_client = stripe.AIOHTTPClient()
    client = stripe.StripeClient(
        TEST_KEY, base_addresses={"api": simulator.base_url}, max_network_retries=0, http_client=http_client
    )
    try:
        page = await client.v1.events.list_async({"limit": 2, "types": ["refund.created"]})
        found = [event async for event in page.auto_paging_iter()]
    finally:
        await http_client.close_async()  # type: ignore[no-untyped-call] # the SDK's own is untyped
    assert [event.data.object["id"] for event in found] == refunds[::-1]
    assert {event.api_version for event in found} == {stripe.api_version}
