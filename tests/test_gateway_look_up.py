"""Looking a transfer and its reversals up: everything comes back, or nothing does and the outcome says why."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import stripe
import structlog

from runner import look_up
from runner.clock import boottime_seconds
from runner.gateway import Gateway
from runner.outcome import Outcome
from runner.sandbox.simulator import LIVE_KEY, TEST_KEY, LoggedRequest, SimulatorClient
from runner.stripe_http import Exchange, NoAnswer, NothingSent, StripeHttp
from tests.support.gateways import Call, assert_nothing_is_known, gateway_to
from tests.support.raw_http import Answer, RawRequest, always, hang, http, raw_server

LIST = {"method": "GET", "path": "/reversals$"}
TRANSFER = {"method": "GET", "path": "/v1/transfers/[^/]+$"}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A simulator with one transfer, the gateway to it and the call that looks it up."""

    simulator: SimulatorClient
    gateway: Gateway
    call: Call

    @property
    def transfer(self) -> str:
        assert self.call.stripe_transfer_id is not None
        return self.call.stripe_transfer_id

    def reverse(self, times: int, **reversal: Any) -> list[str]:
        """Reverse 10 usd at a time; gives the ids, newest first."""
        return self.simulator.create_reversals(self.transfer, [{"amount": 1000, **reversal}] * times)[::-1]

    def reads(self) -> list[LoggedRequest]:
        return self.simulator.requests(method="GET")

    async def look(self) -> dict[str, Any]:
        """Make the call; whatever comes of it, it is reported cleanly, as JSON, and nothing is logged."""
        with structlog.testing.capture_logs() as logged:
            outcome = (await self.gateway.perform(self.call)).as_json()
        assert logged == []
        json.dumps(outcome, ensure_ascii=False).encode()
        return outcome


@asynccontextmanager
async def looking(simulator: SimulatorClient, **options: Any) -> AsyncIterator[Sandbox]:
    transfer = simulator.create_transfer("acct_1Seller", 1_000_000, "usd")
    async with gateway_to(simulator.base_url, **{"key": TEST_KEY, **options}) as gateway:
        yield Sandbox(simulator, gateway, a_look_up(transfer))


@pytest.fixture
async def sandbox(simulator: SimulatorClient) -> AsyncIterator[Sandbox]:
    async with looking(simulator) as sandbox:
        yield sandbox


def a_look_up(transfer: str = "tr_1Pgc7B") -> Call:
    return Call(action="look_up_reversals", stripe_transfer_id=transfer, metadata=None)


# What is asked, and what is reported.


async def test_all_pages_are_read_and_then_the_transfer(sandbox: Sandbox) -> None:
    made = sandbox.reverse(250)

    outcome = await sandbox.look()

    assert [each["id"] for each in outcome["found"]] == made
    assert {each["transfer"] for each in outcome["found"]} == {sandbox.transfer}
    assert outcome["object"]["amount_reversed"] == sum(each["amount"] for each in outcome["found"]) == 250_000
    pages = f"/v1/transfers/{sandbox.transfer}/reversals"
    assert [(request.path, request.params) for request in sandbox.reads()] == [
        (pages, {"limit": "100"}),
        (pages, {"limit": "100", "starting_after": made[99]}),
        (pages, {"limit": "100", "starting_after": made[199]}),
        (f"/v1/transfers/{sandbox.transfer}", {}),
    ]
    assert (outcome["sent"], outcome["stripe_request_id"]) == (True, sandbox.reads()[-1].request_id)


async def test_an_outcome_of_a_look_up_has_every_key_of_its_shape(sandbox: Sandbox) -> None:
    (made,) = sandbox.reverse(1, metadata={"seller_transfers_identity": "reversal:db:tr:re:0", "order_id": "17"})

    outcome = await sandbox.look()

    assert isinstance(outcome.pop("duration_ms"), int)
    assert outcome.pop("stripe_request_id").startswith("req_")
    fields = ("status", "transfer", "destination", "amount_reversed", "transfer_group", "source_transaction")
    nothing_else: dict[str, Any] = dict.fromkeys(fields)
    assert outcome == {
        "id": 7,
        "action": "look_up_reversals",
        "lease_token": sandbox.call.lease_token,
        "sent": True,
        "http_status": 200,
        "error_type": None,
        "error_code": None,
        "error_message": None,
        "replayed": False,
        "object": nothing_else
        | {
            "id": sandbox.transfer,
            "object": "transfer",
            "amount": 1_000_000,
            "currency": "usd",
            "destination": "acct_1Seller",
            "metadata": {},
            "amount_reversed": 1000,
        },
        "found": (
            nothing_else
            | {
                "id": made,
                "object": "transfer_reversal",
                "amount": 1000,
                "currency": "usd",
                "transfer": sandbox.transfer,
                "metadata": {"seller_transfers_identity": "reversal:db:tr:re:0", "order_id": "17"},
            },
        ),
    }


async def test_that_there_is_nothing_is_found_too(sandbox: Sandbox) -> None:
    outcome = await sandbox.look()

    assert outcome["found"] == ()
    assert outcome["object"]["amount_reversed"] == 0


async def test_what_others_did_and_what_became_of_it_is_passed_on_as_it_is(sandbox: Sandbox) -> None:
    sandbox.reverse(1, metadata={"by": "support", "order_id": "not ours"})
    pending, failed, canceled, succeeded = sandbox.reverse(4, pending=True)
    sandbox.simulator.settle_reversal(failed, "failed")
    sandbox.simulator.settle_reversal(canceled, "canceled")
    sandbox.simulator.settle_reversal(succeeded, "succeeded")

    outcome = await sandbox.look()

    found = outcome["found"]
    assert [each["id"] for each in found[:4]] == [pending, failed, canceled, succeeded]
    assert [each["status"] for each in found] == ["pending", "failed", "canceled", "succeeded", None]
    assert found[4]["metadata"] == {"by": "support", "order_id": "not ours"}
    assert outcome["object"]["amount_reversed"] == 3000


async def test_a_page_full_of_metadata_is_not_too_long(sandbox: Sandbox) -> None:
    stuffed = {f"key {number:02}": "x" * 500 for number in range(50)}
    sandbox.reverse(100, metadata=stuffed)

    outcome = await sandbox.look()

    assert [each["metadata"] for each in outcome["found"]] == [stuffed] * 100


# One request fails: nothing can be read from the rest.

FAULTS: list[tuple[dict[str, Any], int | None]] = [
    ({"action": "drop_before"}, None),
    ({"action": "drop_after"}, None),
    ({"action": "truncated"}, 200),
    ({"action": "garbage", "body": "[1,2]"}, 200),
    ({"action": "garbage", "body": "{}"}, 200),
    ({"action": "garbage", "body": "<html>Bad gateway</html>", "status": 502}, 502),
    ({"action": "garbage", "body": '{"error":"x"}', "status": 400}, 400),
    ({"action": "redirect", "location": "/v1/balance"}, 302),
]
REFUSALS: list[dict[str, Any]] = [
    {"status": 400, "type": "invalid_request_error", "code": "resource_missing"},
    {"status": 403, "type": "invalid_request_error", "code": "account_invalid"},
    {"status": 429, "type": "invalid_request_error", "code": "lock_timeout"},
    {"status": 500, "type": "api_error", "code": None},
]
# Which request of a look-up with two pages: how to hit it, and how many requests there are then.
REQUESTS = [
    pytest.param({"match": LIST}, 1, id="first page"),
    pytest.param({"match": LIST, "skip": 1}, 2, id="second page"),
    pytest.param({"match": TRANSFER}, 3, id="transfer"),
]


@pytest.mark.parametrize(("which", "requests"), REQUESTS)
@pytest.mark.parametrize(("fault", "status"), FAULTS, ids=[str(each) for each in range(len(FAULTS))])
async def test_a_request_without_an_answer_of_stripes_leaves_everything_unknown(
    sandbox: Sandbox, fault: dict[str, Any], status: int | None, which: dict[str, Any], requests: int
) -> None:
    sandbox.reverse(101)
    sandbox.simulator.add_fault(**fault, **which)

    outcome = await sandbox.look()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, status)
    assert len(sandbox.reads()) == requests  # and none of them was tried twice


@pytest.mark.parametrize(("which", "requests"), REQUESTS)
@pytest.mark.parametrize("refusal", REFUSALS, ids=[str(each["status"]) for each in REFUSALS])
async def test_a_refused_request_is_reported_in_stripes_words_and_nothing_else(
    sandbox: Sandbox, refusal: dict[str, Any], which: dict[str, Any], requests: int
) -> None:
    sandbox.reverse(101)
    sandbox.simulator.add_fault("error", message="In Stripe's words.", **refusal, **which)

    outcome = await sandbox.look()

    assert (outcome["object"], outcome["found"]) == (None, None)
    said = {"status": outcome["http_status"], "type": outcome["error_type"], "code": outcome["error_code"]}
    assert said == refusal
    assert outcome["error_message"] == "In Stripe's words."
    assert len(sandbox.reads()) == requests
    assert outcome["stripe_request_id"] == sandbox.reads()[-1].request_id


async def test_an_unknown_transfer_a_wrong_mode_a_revoked_key_and_a_rate_limit_are_told_apart(
    sandbox: Sandbox,
) -> None:
    simulator, gateway, call = sandbox.simulator, sandbox.gateway, sandbox.call

    unknown = await gateway.perform(replace(call, stripe_transfer_id="tr_1Nothing"))
    async with gateway_to(simulator.base_url, key=LIVE_KEY) as other_mode:
        elsewhere = await other_mode.perform(call)
    simulator.set_limits(0.001, burst=1)
    limited = await gateway.perform(call)
    simulator.set_limits(None)
    simulator.revoke_key()
    revoked = await gateway.perform(call)

    outcomes = [unknown, elsewhere, limited, revoked]
    assert [(outcome.http_status, outcome.error_code) for outcome in outcomes] == [
        (404, "resource_missing"),
        (404, "resource_missing"),
        (429, "rate_limit"),
        (401, "api_key_expired"),
    ]
    assert unknown.error_message == "No such transfer: 'tr_1Nothing'"
    assert "a similar object exists in test mode" in (elsewhere.error_message or "")
    assert [(outcome.sent, outcome.object, outcome.found) for outcome in outcomes] == [(True, None, None)] * 4


# Lists that do not hold what they promise.


async def test_a_page_that_comes_again_makes_the_list_unreadable(sandbox: Sandbox) -> None:
    sandbox.reverse(101)
    sandbox.simulator.add_fault("bend_list", match=LIST, skip=1, from_start=True)

    outcome = await sandbox.look()

    assert_nothing_is_known(outcome, 200)
    assert "twice" in outcome["error_message"]
    assert len(sandbox.reads()) == 2


async def test_a_list_that_never_ends_makes_it_unreadable(sandbox: Sandbox) -> None:
    sandbox.reverse(5)
    sandbox.simulator.add_fault("bend_list", match=LIST, times=None, has_more=True)

    outcome = await sandbox.look()

    assert_nothing_is_known(outcome, 200)
    assert "go on" in outcome["error_message"]
    assert len(sandbox.reads()) == 2


async def test_a_list_may_end_with_an_empty_page(sandbox: Sandbox) -> None:
    made = sandbox.reverse(5)
    sandbox.simulator.add_fault("bend_list", match=LIST, has_more=True)

    outcome = await sandbox.look()

    assert [each["id"] for each in outcome["found"]] == made


@pytest.mark.parametrize(
    "lie", [{"has_more": False}, {"skip": 1, "hide": 100}, {"skip": 1, "hide": 100, "has_more": False}, {"hide": 1}]
)
async def test_a_list_that_leaves_something_out_does_not_add_up_to_the_transfer(
    sandbox: Sandbox, lie: dict[str, Any]
) -> None:
    """It cannot be seen in the list: that is why the database compares the two."""
    sandbox.reverse(150)
    sandbox.simulator.add_fault("bend_list", match=LIST, **lie)

    outcome = await sandbox.look()

    assert sum(each["amount"] for each in outcome["found"]) < outcome["object"]["amount_reversed"] == 150_000


@pytest.mark.parametrize(
    "held", [{"match": LIST, "skip": 1}, {"match": TRANSFER}], ids=["before the second page", "before the transfer"]
)
async def test_a_reversal_made_during_the_look_up_does_not_go_unnoticed(sandbox: Sandbox, held: dict[str, Any]) -> None:
    sandbox.reverse(150)
    sandbox.simulator.add_fault("hold", name="stop", **held)

    looking = asyncio.create_task(sandbox.look())
    await asyncio.to_thread(sandbox.simulator.wait_for_held, "stop")
    sandbox.reverse(1)
    sandbox.simulator.release("stop")
    outcome = await looking

    assert len(outcome["found"]) == 150
    assert outcome["object"]["amount_reversed"] == 151_000


# Answers that are of the wrong kind.

REVERSAL = {
    "id": "trr_1Pgc7B",
    "object": "transfer_reversal",
    "amount": 1100,
    "currency": "usd",
    "metadata": {},
    "transfer": "tr_1Pgc7B",
}
PAGE = {"object": "list", "data": [REVERSAL], "has_more": False, "url": "/v1/transfers/tr_1Pgc7B/reversals"}
STRIPE_TRANSFER = {
    "id": "tr_1Pgc7B",
    "object": "transfer",
    "amount": 1100,
    "amount_reversed": 1100,
    "currency": "usd",
    "destination": "acct_1PgafT",
    "metadata": {},
}


def without(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in answer.items() if field != name}


def telling(page: object, transfer: object) -> Answer:
    async def reply(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, page if request.path.partition("?")[0].endswith("/reversals") else transfer))

    return reply


async def look_at(answer: Answer) -> tuple[Outcome, int]:
    """Look up; gives the outcome and how many requests that took."""
    async with raw_server(answer) as server, gateway_to(server.base) as gateway:
        return await gateway.perform(a_look_up()), len(server.requests)


async def test_a_transfer_without_a_destination_is_one_all_the_same() -> None:
    outcome, _ = await look_at(telling(PAGE, STRIPE_TRANSFER | {"destination": None}))

    assert outcome.object is not None
    assert outcome.object.destination is None


@pytest.mark.parametrize(
    "page",
    [
        REVERSAL,
        PAGE | {"object": "search_result"},
        without(PAGE, "object"),
        without(PAGE, "data"),
        PAGE | {"data": None},
        PAGE | {"data": {"0": REVERSAL}},
        PAGE | {"data": [REVERSAL, None]},
        PAGE | {"data": ["trr_1Pgc7B"]},
        PAGE | {"data": [[REVERSAL]]},
        without(PAGE, "has_more"),
        PAGE | {"has_more": None},
        PAGE | {"has_more": "false"},
        PAGE | {"has_more": 0},
        PAGE | {"data": [REVERSAL, REVERSAL]},
        PAGE | {"data": [STRIPE_TRANSFER]},
        *[
            PAGE | {"data": [REVERSAL | flaw]}
            for flaw in (
                {"object": "refund"},
                {"id": None},
                {"id": "tr_1Pgc7B"},
                {"amount": "1100"},
                {"amount": True},
                {"currency": None},
                {"transfer": "tr_other"},
                {"transfer": None},
                {"transfer": STRIPE_TRANSFER},
                {"status": 5},
                {"metadata": {"order": 17}},
            )
        ],
    ],
)
async def test_a_page_that_cannot_be_trusted_is_not_reported(page: object) -> None:
    outcome, requests = await look_at(telling(page, STRIPE_TRANSFER))

    assert_nothing_is_known(outcome.as_json(), 200)
    assert requests == 1


@pytest.mark.parametrize(
    "transfer",
    [
        REVERSAL,
        STRIPE_TRANSFER | {"id": "tr_other"},
        STRIPE_TRANSFER | {"id": "trr_1Pgc7B"},
        STRIPE_TRANSFER | {"object": "payout"},
        STRIPE_TRANSFER | {"amount": 11.0},
        without(STRIPE_TRANSFER, "amount_reversed"),
        STRIPE_TRANSFER | {"amount_reversed": None},
        STRIPE_TRANSFER | {"amount_reversed": True},
        STRIPE_TRANSFER | {"amount_reversed": 2**63},
        STRIPE_TRANSFER | {"currency": "US"},
        STRIPE_TRANSFER | {"destination": {"id": "acct_1"}},
        STRIPE_TRANSFER | {"metadata": []},
    ],
)
async def test_a_transfer_that_cannot_be_trusted_is_not_reported_nor_is_what_was_found(transfer: object) -> None:
    outcome, requests = await look_at(telling(PAGE, transfer))

    assert_nothing_is_known(outcome.as_json(), 200)
    assert requests == 2


async def test_a_list_beyond_all_bounds_is_not_read_to_its_end() -> None:
    numbers = itertools.count(1)

    async def another_page(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, PAGE | {"data": [REVERSAL | {"id": f"trr_{next(numbers)}"}], "has_more": True}))

    outcome, requests = await look_at(another_page)

    assert_nothing_is_known(outcome.as_json(), 200)
    assert requests == look_up.PAGE_LIMIT == 100


async def test_a_hundred_pages_are_within_bounds() -> None:
    numbers = itertools.count(1)

    async def pages(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if urlsplit(request.path).path.endswith("/reversals"):
            number = next(numbers)
            cursor = dict(parse_qsl(urlsplit(request.path).query)).get("starting_after")
            assert cursor == (f"trr_{number - 1}" if number > 1 else None)
            writer.write(http(200, PAGE | {"data": [REVERSAL | {"id": f"trr_{number}"}], "has_more": number < 100}))
        else:
            writer.write(http(200, STRIPE_TRANSFER))

    outcome, requests = await look_at(pages)

    assert requests == 101
    assert outcome.found is not None
    assert [each.id for each in outcome.found] == [f"trr_{number}" for number in range(1, 101)]


async def test_the_answers_of_one_look_up_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(json.dumps(PAGE)) + len(json.dumps(STRIPE_TRANSFER))
    monkeypatch.setattr(look_up, "BYTE_LIMIT", size)
    fits, _ = await look_at(telling(PAGE, STRIPE_TRANSFER))
    monkeypatch.setattr(look_up, "BYTE_LIMIT", size - 1)
    does_not, requests = await look_at(telling(PAGE, STRIPE_TRANSFER))

    assert fits.found is not None
    assert_nothing_is_known(does_not.as_json(), 200)
    assert requests == 2


# One deadline, one lease.


async def test_one_deadline_covers_all_requests_together(simulator: SimulatorClient) -> None:
    async with looking(simulator, deadline=0.5) as sandbox:
        sandbox.reverse(250)
        # Each is well within the deadline, all four are not.
        simulator.add_fault("delay", seconds=0.2, times=None, match={"method": "GET"})

        outcome = await sandbox.look()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "0.5 s" in outcome["error_message"]
    assert len(sandbox.reads()) <= 3


async def test_a_page_that_hangs_half_way_is_given_up_at_the_deadline(simulator: SimulatorClient) -> None:
    async with looking(simulator, deadline=0.5) as sandbox:
        sandbox.reverse(101)
        simulator.add_fault("hang_body", match=LIST, skip=1)

        outcome = await sandbox.look()

    # On a busy machine not even the head of an answer comes in time.
    assert_nothing_is_known(outcome, 200 if outcome["http_status"] else None)
    assert "0.5 s" in outcome["error_message"]


async def test_a_request_ends_with_the_whole_it_is_a_part_of() -> None:
    transport = StripeHttp(slots=1, deadline_seconds=600, ca_file=stripe.ca_bundle_path, proxy=None)
    exchange = Exchange(gives_up_at=time.monotonic() + 0.1)
    async with raw_server(hang) as server, transport, asyncio.timeout(20):
        with exchange.current(), pytest.raises(NoAnswer):
            await transport.request("get", server.base, {}, None)

        with Exchange(gives_up_at=exchange.gives_up_at).current(), pytest.raises(NothingSent):
            await transport.request("get", server.base, {}, None)
        assert len(server.requests) == 1


@pytest.mark.parametrize("left", [-10.0, 0.0, 4.9, 5.2])
async def test_no_look_up_begins_on_a_lease_that_it_could_outlive(left: float) -> None:
    async with raw_server(always(http(200, PAGE))) as server, gateway_to(server.base, deadline=5.0) as gateway:
        outcome = (await gateway.perform(replace(a_look_up(), lease_ends=boottime_seconds() + left))).as_json()

    assert server.connections == 0
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert "lease" in outcome["error_message"]


@pytest.mark.parametrize("answered", [1, 2])
async def test_no_request_begins_when_the_lease_has_ended_since_the_one_before(answered: int) -> None:
    """The machine was asleep: the clock of leases runs on meanwhile, that of deadlines does not."""
    clock = [0.0]
    requests = itertools.count(1)

    async def answer_and_sleep(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        number = next(requests)
        if number == answered:
            clock[0] += 60.0
        writer.write(http(200, PAGE | {"data": [REVERSAL | {"id": f"trr_{number}"}], "has_more": True}))

    async with (
        raw_server(answer_and_sleep) as server,
        gateway_to(server.base, deadline=5.0, clock=lambda: clock[0]) as gateway,
    ):
        outcome = (await gateway.perform(replace(a_look_up(), lease_ends=60.0))).as_json()

    assert len(server.requests) == answered
    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "lease" in outcome["error_message"]


# Being stopped, and calls that cannot be made.


@pytest.mark.parametrize("held", [{"match": LIST}, {"match": LIST, "skip": 1}, {"match": TRANSFER}])
async def test_a_look_up_stopped_on_its_way_says_so_and_frees_its_connection(
    simulator: SimulatorClient, held: dict[str, Any]
) -> None:
    async with looking(simulator, slots=1) as sandbox:
        sandbox.reverse(101)
        simulator.add_fault("hold", name="stop", **held)
        looking_up = asyncio.create_task(sandbox.look())
        await asyncio.to_thread(simulator.wait_for_held, "stop")
        looking_up.cancel()
        outcome = await looking_up
        again = await sandbox.look()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "stopped" in outcome["error_message"]
    assert len(again["found"]) == 101


@pytest.mark.parametrize("bad", [None, "", "tr_", "tr_1/reversals", "../tr_1", "trr_1", "tr_1\n"])
async def test_a_look_up_without_a_transfers_id_is_not_made(bad: str | None) -> None:
    async with raw_server(always(http(200, PAGE))) as server, gateway_to(server.base) as gateway:
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(replace(a_look_up(), stripe_transfer_id=bad))).as_json()

    assert server.connections == 0
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert [entry["event"] for entry in logged] == ["call unfit"]


@pytest.mark.parametrize("cut", [1, 2], ids=["a new connection", "a used one"])
async def test_a_connection_that_breaks_is_not_tried_again_and_its_request_counts_as_sent(cut: int) -> None:
    """Not even if the lease has run out by then: only what was never written was not sent."""
    clock = [0.0]
    requests = itertools.count(1)

    async def answer_or_break(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if next(requests) < cut:
            writer.write(http(200, PAGE))
        else:
            clock[0] += 60.0
            writer.close()

    async with (
        raw_server(answer_or_break) as server,
        gateway_to(server.base, clock=lambda: clock[0]) as gateway,
    ):
        outcome = (await gateway.perform(replace(a_look_up(), lease_ends=60.0))).as_json()

    assert len(server.requests) == cut
    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
