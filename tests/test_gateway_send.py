"""Sending a transfer: what is asked of Stripe, what is reported of its answer, and what is never sent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
import structlog

from runner.clock import boottime_seconds
from runner.gateway import Gateway
from runner.sandbox.simulator import LIVE_KEY, TEST_KEY, SimulatorClient
from tests.support.gateways import KEY, TOKEN, Call, answering, assert_nothing_is_known, gateway_to, outcome_of
from tests.support.raw_http import Answer, RawRequest, always, hang, http

SEND = {"method": "POST", "path": "^/v1/transfers$"}
SELLER = "acct_1Seller"
TRANSFER = {
    "id": "tr_1Pgc7B",
    "object": "transfer",
    "amount": 1100,
    "amount_reversed": 0,
    "balance_transaction": "txn_1Pgc7B",
    "created": 1234567890,
    "currency": "usd",
    "description": None,
    "destination": "acct_1PgafT",
    "destination_payment": "py_1Pgc7B",
    "livemode": False,
    "metadata": {"order": "17"},
    "reversals": {"object": "list", "data": [], "has_more": False, "url": "/v1/transfers/tr_1Pgc7B/reversals"},
    "reversed": False,
    "source_transaction": "ch_1Pgc7B",
    "source_type": "card",
    "transfer_group": "order-17",
}


def a_send(**changes: Any) -> Call:
    call = Call(action="send", stripe_transfer_id=None, idempotency_key="transfer:db:key-17:1")
    return replace(call, **changes)


# What is sent, and the shape of what is reported.


@pytest.mark.parametrize(
    ("source", "group", "sent"),
    [
        (None, None, {}),
        (None, "Order 17/ä & more", {"transfer_group": "Order 17/ä & more"}),
        ("ch_1Pgc7B", None, {"source_transaction": "ch_1Pgc7B"}),
        ("py_1Pgc7B", "order-17", {"source_transaction": "py_1Pgc7B"}),  # both is what Stripe refuses
    ],
)
async def test_a_transfer_is_sent_with_everything_said_and_from_its_charge_or_in_its_group(
    source: str | None, group: str | None, sent: dict[str, str]
) -> None:
    async with answering(always(http(200, TRANSFER))) as (gateway, requests):
        await gateway.perform(a_send(source_charge=source, transfer_group=group))

    (request,) = requests
    assert (request.method, request.path) == ("POST", "/v1/transfers")
    assert dict(parse_qsl(request.body)) == sent | {
        "amount": "1100",
        "currency": "usd",
        "destination": "acct_1PgafT",
        "metadata[order]": "17",
        "metadata[row]": "7",
    }
    assert request.headers["idempotency-key"] == "transfer:db:key-17:1"
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_an_outcome_of_a_send_has_every_key_of_its_shape() -> None:
    answer = always(http(200, TRANSFER, {"Request-Id": "req_1", "Idempotent-Replayed": "true"}))

    outcome = await outcome_of(answer, a_send())

    assert isinstance(outcome.pop("duration_ms"), int)
    assert outcome == {
        "id": 7,
        "action": "send",
        "lease_token": TOKEN,
        "sent": True,
        "http_status": 200,
        "error_type": None,
        "error_code": None,
        "error_message": None,
        "stripe_request_id": "req_1",
        "replayed": True,
        "object": {
            "id": "tr_1Pgc7B",
            "object": "transfer",
            "amount": 1100,
            "currency": "usd",
            "status": None,
            "transfer": None,
            "destination": "acct_1PgafT",
            "metadata": {"order": "17"},
            "amount_reversed": 0,
            "transfer_group": "order-17",
            "source_transaction": "ch_1Pgc7B",
        },
        "found": None,
    }


@pytest.mark.parametrize(
    "told",
    [
        {"amount": 1, "currency": "eur", "destination": "acct_other"},
        {"amount_reversed": 1100, "metadata": {}},
        {"destination": None, "source_transaction": None, "transfer_group": None, "metadata": None},
        {"transfer_group": "", "source_transaction": "py_1Pgc7B"},
    ],
)
async def test_a_transfer_is_reported_as_stripe_tells_it_even_if_it_is_not_the_one_asked_for(
    told: dict[str, Any],
) -> None:
    outcome = await outcome_of(always(http(200, TRANSFER | told)), a_send())

    assert outcome["error_message"] is None
    assert {name: outcome["object"][name] for name in told} == told


async def test_a_group_is_any_text_and_is_cleaned() -> None:
    outcome = await outcome_of(always(http(200, TRANSFER | {"transfer_group": "\x00ä\ud800\n" + "x" * 500})), a_send())

    assert outcome["object"]["transfer_group"] == "�ä� " + "x" * 250 + "…"


# Answers that leave it open whether money moved, and refusals.


async def close(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (close, None),
        (hang, None),
        (always(http(200, TRANSFER)[:-20], then_close=True), 200),
        (always(http(302, TRANSFER, {"Location": "/v1/transfers"})), 302),
        (always(http(400, {"error": "x"})), 400),
        (always(http(502, b"<html>Bad gateway</html>")), 502),
        (always(http(200, [TRANSFER])), 200),
        (always(http(200, {"object": "list", "data": [TRANSFER], "has_more": False})), 200),
    ],
)
async def test_without_an_answer_of_stripes_it_is_unknown_whether_money_moved_and_nothing_is_tried_twice(
    answer: Answer, status: int | None
) -> None:
    assert_nothing_is_known(await outcome_of(answer, a_send(), deadline=1.0), status)


@pytest.mark.parametrize(
    "flaw",
    [
        {"object": "transfer_reversal"},
        {"object": None},
        {"id": None},
        {"id": "trr_1Pgc7B"},
        {"id": "tr_1/reversals"},
        {"amount": "1100"},
        {"amount": 1100.0},
        {"amount": True},
        {"amount_reversed": None},
        {"currency": "USD"},
        {"destination": {"id": "acct_1PgafT"}},
        {"destination": "acct_1 PgafT"},
        {"metadata": {"order": 17}},
        {"source_transaction": {"id": "ch_1Pgc7B"}},
        {"source_transaction": "ch_1\x00"},
        {"source_transaction": ""},
        {"transfer_group": 17},
        {"transfer_group": ["order-17"]},
    ],
)
async def test_a_transfer_that_cannot_be_trusted_is_not_reported(flaw: dict[str, object]) -> None:
    outcome = await outcome_of(always(http(200, TRANSFER | flaw)), a_send())

    assert_nothing_is_known(outcome, 200)
    assert next(iter(flaw)) in outcome["error_message"]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "balance_insufficient"),
        (400, "invalid_request_error", None),
        (400, "idempotency_error", None),
        (401, "invalid_request_error", "api_key_expired"),
        (409, "invalid_request_error", "idempotency_key_in_use"),
        (429, "invalid_request_error", "rate_limit"),
        (500, "api_error", None),
    ],
)
async def test_a_refusal_of_a_send_is_reported_in_stripes_words(status: int, kind: str, code: str | None) -> None:
    error = {"type": kind, "code": code, "message": "In Stripe's words."}

    outcome = await outcome_of(always(http(status, {"error": error}, {"Request-Id": "req_9"})), a_send())

    assert (outcome["http_status"], outcome["error_type"], outcome["error_code"]) == (status, kind, code)
    assert (outcome["error_message"], outcome["stripe_request_id"]) == ("In Stripe's words.", "req_9")
    assert (outcome["object"], outcome["found"]) == (None, None)


# What is never sent.


UNFIT: dict[str, list[Any]] = {
    "destination_account": [None, "", "acct_", "acct_1 ", "acct_1\n", "acct_1/x", "acct_é", "ba_1PgafT"],
    "source_charge": ["", "ch_", "py_", "ch_1\n", "pi_1Pgc7B", "tr_1Pgc7B", "ch_1, ch_2", "1"],
    "transfer_group": [""],
    "currency": [None, "", "USD", "us", "usd ", "dollars"],
    "amount": [0, -1],
    "idempotency_key": ["", " ", "a\r\nX: y", "a" * 256],
    "metadata": [None, {}],
}


@pytest.mark.parametrize(("part", "bad"), [(part, bad) for part, values in UNFIT.items() for bad in values])
async def test_a_send_that_cannot_be_made_safely_is_not_made(part: str, bad: Any) -> None:
    async with answering(always(http(200, TRANSFER))) as (gateway, requests):
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(a_send(**{part: bad}))).as_json()

    assert requests == []
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert part in outcome["error_message"]
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("call unfit", "error")]


async def test_what_a_send_does_not_need_may_be_anything() -> None:
    call = a_send(stripe_transfer_id="nonsense", stripe_reversal_id="nonsense", source_charge="ch_1", transfer_group="")
    async with answering(always(http(200, TRANSFER))) as (gateway, requests):
        outcome = await gateway.perform(call)

    assert outcome.object is not None
    assert len(requests) == 1


async def test_what_the_sdk_cannot_send_is_reported_as_not_sent() -> None:
    async with answering(always(http(200, TRANSFER))) as (gateway, requests):
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(a_send(transfer_group="\ud800"))).as_json()

    assert requests == []
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert [entry["log_level"] for entry in logged] == ["error"]


@pytest.mark.parametrize(("left", "sent"), [(-10.0, False), (0.0, False), (4.9, False), (5.2, False), (6.0, True)])
async def test_nothing_is_sent_on_a_lease_that_the_send_could_outlive(left: float, sent: bool) -> None:
    async with answering(always(http(200, TRANSFER)), deadline=5.0) as (gateway, requests):
        outcome = await gateway.perform(a_send(lease_ends=boottime_seconds() + left))

    assert (outcome.sent, len(requests)) == (sent, int(sent))


async def test_a_send_stopped_on_its_way_is_reported_as_sent_and_unknown() -> None:
    arrived = asyncio.Event()

    async def arrive(_request: RawRequest, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.sleep(20)

    async with answering(arrive) as (gateway, _):
        sending = asyncio.create_task(gateway.perform(a_send()))
        await asyncio.wait_for(arrived.wait(), 5)
        sending.cancel()
        outcome = (await sending).as_json()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "stopped" in outcome["error_message"]


# Against the sandbox's Stripe.

Sandbox = tuple[SimulatorClient, Gateway, Call]


@pytest.fixture
async def sandbox(simulator: SimulatorClient) -> AsyncIterator[Sandbox]:
    """A simulator with a seller and 1100 usd of the platform's, a gateway to it and the call that sends them."""
    simulator.create_account(SELLER)
    simulator.fund(1100, "usd")
    async with gateway_to(simulator.base_url, key=TEST_KEY) as gateway:
        yield simulator, gateway, a_send(destination_account=SELLER)


def sent_money(simulator: SimulatorClient) -> list[tuple[str, int]]:
    return [(entry.credit, entry.moved) for entry in simulator.ledger(kind="transfer")]


async def test_money_is_sent_once_and_a_second_call_replays_it(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox

    first = await gateway.perform(replace(call, transfer_group="order-17"))
    second = await gateway.perform(replace(call, transfer_group="order-17"))

    assert first.object is not None
    assert (first.object.amount, first.object.currency, first.object.destination) == (1100, "usd", SELLER)
    assert (first.object.transfer_group, first.object.source_transaction) == ("order-17", None)
    assert first.object.metadata == {"order": "17", "row": "7"}
    assert first.object == second.object
    assert (first.replayed, second.replayed) == (False, True)
    assert sent_money(simulator) == [(SELLER, 1100)]


async def test_a_charge_pays_and_hands_down_its_group(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox
    charge = simulator.create_charge(2000, "usd", transfer_group="theirs")

    outcome = await gateway.perform(replace(call, source_charge=charge, transfer_group="ours"))

    assert outcome.object is not None
    assert (outcome.object.source_transaction, outcome.object.transfer_group) == (charge, "theirs")
    assert simulator.balances()["acct_1SandboxPlatform"] == {"usd": 1100}


async def test_a_lost_answer_is_unknown_and_the_same_key_finds_what_was_done(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox
    simulator.add_fault("drop_after", match=SEND)

    lost = await gateway.perform(call)
    found = await gateway.perform(call)

    assert_nothing_is_known(lost.as_json(), None)
    assert found.object is not None
    assert found.replayed is True
    assert sent_money(simulator) == [(SELLER, 1100)]


async def test_refusals_of_a_send_are_told_apart(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox
    charge = simulator.create_charge(1000, "usd")
    calls = {
        "poor": replace(call, amount=1101, idempotency_key="1"),
        "poor again": replace(call, amount=1101, idempotency_key="1"),
        "unknown seller": replace(call, destination_account="acct_1Nobody", idempotency_key="2"),
        "unknown charge": replace(call, source_charge="ch_1Nothing", idempotency_key="3"),
        "more than charged": replace(call, source_charge=charge, idempotency_key="4"),
        "key reused": replace(call, amount=1, idempotency_key="1"),
    }

    outcomes = {name: await gateway.perform(each) for name, each in calls.items()}
    async with gateway_to(simulator.base_url, key=LIVE_KEY) as other_mode:
        outcomes["wrong mode"] = await other_mode.perform(call)

    assert {
        name: (outcome.http_status, outcome.error_type, outcome.error_code, outcome.replayed)
        for name, outcome in outcomes.items()
    } == {
        "poor": (400, "invalid_request_error", "balance_insufficient", False),
        "poor again": (400, "invalid_request_error", "balance_insufficient", True),
        "unknown seller": (400, "invalid_request_error", "resource_missing", False),
        "unknown charge": (400, "invalid_request_error", "resource_missing", False),
        "more than charged": (400, "invalid_request_error", None, False),
        "key reused": (400, "idempotency_error", None, False),
        "wrong mode": (400, "invalid_request_error", "resource_missing", False),
    }
    assert "a similar object exists in test mode" in (outcomes["wrong mode"].error_message or "")
    assert not [name for name, outcome in outcomes.items() if outcome.object]
    assert sent_money(simulator) == []
