"""Looking a send up among all transfers to its account: everything comes back, or nothing does and it says why."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import structlog

from runner import look_up
from runner.clock import boottime_seconds
from runner.gateway import Gateway
from runner.outcome import Outcome
from runner.sandbox.simulator import TEST_KEY, LoggedRequest, SimulatorClient
from tests.support.gateways import TOKEN, Call, answering, assert_nothing_is_known, gateway_to
from tests.support.raw_http import Answer, RawRequest, always, http, raw_server

SELLER = "acct_1Seller"
LIST = {"method": "GET", "path": "^/v1/transfers$"}


def a_look_up(destination: str | None = "acct_1PgafT", **changes: Any) -> Call:
    call = Call(
        action="look_up_transfer",
        stripe_transfer_id=None,
        destination_account=destination,
        idempotency_key="transfer:db:key-17:1",
        metadata=None,
        created_after=datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC),
    )
    return replace(call, **changes)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A simulator, the gateway to it and the call that looks up what was sent to one of its sellers."""

    simulator: SimulatorClient
    gateway: Gateway
    call: Call

    def send(self, times: int, destination: str = SELLER, **transfer: Any) -> list[str]:
        """Send 10 usd at a time; gives the ids, newest first."""
        new = {"destination": destination, "amount": 1000, "currency": "usd", **transfer}
        return self.simulator.create_transfers([new] * times)[::-1]

    def reads(self) -> list[LoggedRequest]:
        return self.simulator.requests(method="GET")

    async def look(self, call: Call | None = None) -> dict[str, Any]:
        """Make the call; whatever comes of it, it is reported cleanly, as JSON, and nothing is logged."""
        with structlog.testing.capture_logs() as logged:
            outcome = (await self.gateway.perform(call or self.call)).as_json()
        assert logged == []
        json.dumps(outcome, ensure_ascii=False).encode()
        return outcome


@pytest.fixture
async def sandbox(simulator: SimulatorClient) -> AsyncIterator[Sandbox]:
    yesterday = datetime.fromtimestamp(simulator.health()["now"], UTC) - timedelta(days=1)
    async with gateway_to(simulator.base_url, key=TEST_KEY) as gateway:
        yield Sandbox(simulator, gateway, a_look_up(SELLER, created_after=yesterday))


def ids(outcome: dict[str, Any]) -> list[str]:
    return [each["id"] for each in outcome["found"]]


# What is asked, and what is reported.


async def test_all_pages_to_the_one_account_are_read_and_nothing_else(sandbox: Sandbox) -> None:
    sandbox.send(1, "acct_1Other")
    made = sandbox.send(250)
    sandbox.send(1, "acct_1Other")

    outcome = await sandbox.look()

    assert sandbox.call.created_after is not None
    asked = {
        "limit": "100",
        "destination": SELLER,
        "created": {"gte": str(int(sandbox.call.created_after.timestamp()))},
    }
    assert ids(outcome) == made
    assert {each["destination"] for each in outcome["found"]} == {SELLER}
    assert [(request.path, request.params) for request in sandbox.reads()] == [
        ("/v1/transfers", asked),
        ("/v1/transfers", asked | {"starting_after": made[99]}),
        ("/v1/transfers", asked | {"starting_after": made[199]}),
    ]
    assert (outcome["sent"], outcome["stripe_request_id"]) == (True, sandbox.reads()[-1].request_id)


async def test_an_outcome_of_a_look_up_for_a_send_has_every_key_of_its_shape(sandbox: Sandbox) -> None:
    metadata = {"seller_transfers_identity": "transfer:db:key-17", "order_id": "17"}
    (made,) = sandbox.send(1, metadata=metadata, transfer_group="order-17")
    sandbox.simulator.create_reversals(made, [{"amount": 400}])

    outcome = await sandbox.look()

    assert isinstance(outcome.pop("duration_ms"), int)
    assert outcome.pop("stripe_request_id").startswith("req_")
    assert outcome == {
        "id": 7,
        "action": "look_up_transfer",
        "lease_token": TOKEN,
        "sent": True,
        "http_status": 200,
        "error_type": None,
        "error_code": None,
        "error_message": None,
        "replayed": False,
        "object": None,
        "found": (
            {
                "id": made,
                "object": "transfer",
                "amount": 1000,
                "currency": "usd",
                "status": None,
                "transfer": None,
                "destination": SELLER,
                "metadata": metadata,
                "amount_reversed": 400,
                "transfer_group": "order-17",
                "source_transaction": None,
            },
        ),
    }


async def test_that_nothing_was_sent_is_found_too(sandbox: Sandbox) -> None:
    sandbox.send(1, "acct_1Other")

    outcome = await sandbox.look()

    assert (outcome["found"], outcome["object"], outcome["error_message"]) == ((), None, None)


async def test_what_is_older_is_left_out_by_the_second(sandbox: Sandbox) -> None:
    sandbox.send(1)
    sandbox.simulator.advance_clock(100)
    (made,) = sandbox.send(1)
    created = sandbox.simulator.stripe("GET", f"/v1/transfers/{made}").json()["created"]

    found = [
        ids(await sandbox.look(replace(sandbox.call, created_after=datetime.fromtimestamp(created + after, UTC))))
        for after in (-1, 0, 0.25, 0.999, 1)
    ]

    assert found == [[made], [made], [made], [made], []]


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=9, minutes=30))], ids=str
)
async def test_a_time_means_the_same_in_every_zone(zone: timezone) -> None:
    created_after = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC).astimezone(zone)
    async with answering(always(http(200, PAGE))) as (gateway, requests):
        await gateway.perform(a_look_up(created_after=created_after))

    assert dict(parse_qsl(urlsplit(requests[0].path).query))["created[gte]"] == "1767323045"


async def test_a_send_by_this_program_is_found_with_all_it_is_known_by(sandbox: Sandbox) -> None:
    sandbox.simulator.create_account(SELLER)
    charge = sandbox.simulator.create_charge(1000, "usd", transfer_group="order-17")
    send = replace(sandbox.call, action="send", source_charge=charge, amount=900, metadata={"identity": "ours"})
    sandbox.simulator.add_fault("drop_after", match={"method": "POST"})

    lost = await sandbox.gateway.perform(send)
    (found,) = (await sandbox.look())["found"]

    assert (lost.sent, lost.http_status, lost.object) == (True, None, None)
    assert (found["amount"], found["destination"], found["metadata"]) == (900, SELLER, {"identity": "ours"})
    assert (found["source_transaction"], found["transfer_group"]) == (charge, "order-17")


# One request fails: nothing can be read from the rest.

FAULTS: list[tuple[dict[str, Any], int | None]] = [
    ({"action": "drop_before"}, None),
    ({"action": "truncated"}, 200),
    ({"action": "garbage", "body": "[1,2]"}, 200),
    ({"action": "garbage", "body": "{}"}, 200),
    ({"action": "garbage", "body": "<html>Bad gateway</html>", "status": 502}, 502),
    ({"action": "redirect", "location": "/v1/balance"}, 302),
]
REFUSALS: list[dict[str, Any]] = [
    {"status": 400, "type": "invalid_request_error", "code": "resource_missing"},
    {"status": 403, "type": "invalid_request_error", "code": "account_invalid"},
    {"status": 429, "type": "invalid_request_error", "code": "rate_limit"},
    {"status": 500, "type": "api_error", "code": None},
]
# Which of the two requests of a look-up is hit.
WHICH = pytest.mark.parametrize("skip", [0, 1], ids=["first page", "second page"])


@WHICH
@pytest.mark.parametrize(("fault", "status"), FAULTS, ids=[str(each) for each in range(len(FAULTS))])
async def test_a_page_without_an_answer_of_stripes_leaves_everything_unknown(
    sandbox: Sandbox, fault: dict[str, Any], status: int | None, skip: int
) -> None:
    sandbox.send(101)
    sandbox.simulator.add_fault(**fault, match=LIST, skip=skip)

    outcome = await sandbox.look()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, status)
    assert len(sandbox.reads()) == skip + 1  # and none of them was tried twice


@WHICH
@pytest.mark.parametrize("refusal", REFUSALS, ids=[str(each["status"]) for each in REFUSALS])
async def test_a_refused_page_is_reported_in_stripes_words_and_nothing_else(
    sandbox: Sandbox, refusal: dict[str, Any], skip: int
) -> None:
    sandbox.send(101)
    sandbox.simulator.add_fault("error", message="In Stripe's words.", **refusal, match=LIST, skip=skip)

    outcome = await sandbox.look()

    assert (outcome["object"], outcome["found"]) == (None, None)
    said = {"status": outcome["http_status"], "type": outcome["error_type"], "code": outcome["error_code"]}
    assert said == refusal
    assert outcome["error_message"] == "In Stripe's words."
    assert len(sandbox.reads()) == skip + 1


# Lists that do not hold what they promise.


async def test_a_page_that_comes_again_makes_the_list_unreadable(sandbox: Sandbox) -> None:
    sandbox.send(101)
    sandbox.simulator.add_fault("bend_list", match=LIST, skip=1, from_start=True)

    outcome = await sandbox.look()

    assert_nothing_is_known(outcome, 200)
    assert "twice" in outcome["error_message"]


@pytest.mark.parametrize(("times", "complete"), [(1, True), (None, False)])
async def test_a_list_may_end_with_an_empty_page_that_says_so(
    sandbox: Sandbox, times: int | None, complete: bool
) -> None:
    made = sandbox.send(5)
    sandbox.simulator.add_fault("bend_list", match=LIST, times=times, has_more=True)

    outcome = await sandbox.look()

    assert outcome["found"] is None or ids(outcome) == made
    assert (outcome["found"] is not None, len(sandbox.reads())) == (complete, 2)


async def test_what_is_sent_during_the_look_up_shifts_no_page(sandbox: Sandbox) -> None:
    made = sandbox.send(150)
    sandbox.simulator.add_fault("hold", name="stop", match=LIST, skip=1)

    looking = asyncio.create_task(sandbox.look())
    await asyncio.to_thread(sandbox.simulator.wait_for_held, "stop")
    sandbox.send(1)
    sandbox.simulator.release("stop")

    assert ids(await looking) == made


TRANSFER = {
    "id": "tr_1Pgc7B",
    "object": "transfer",
    "amount": 1100,
    "amount_reversed": 0,
    "currency": "usd",
    "destination": "acct_1PgafT",
    "metadata": {},
    "source_transaction": None,
    "transfer_group": None,
}
PAGE = {"object": "list", "data": [TRANSFER], "has_more": False, "url": "/v1/transfers"}


async def look_at(answer: Answer) -> tuple[Outcome, int]:
    """Look up; gives the outcome and how many requests that took."""
    async with raw_server(answer) as server, gateway_to(server.base) as gateway:
        return await gateway.perform(a_look_up()), len(server.requests)


@pytest.mark.parametrize(
    "page",
    [
        TRANSFER,
        PAGE | {"object": "search_result"},
        PAGE | {"data": None},
        PAGE | {"data": {"0": TRANSFER}},
        PAGE | {"data": ["tr_1Pgc7B"]},
        PAGE | {"has_more": None},
        PAGE | {"has_more": "false"},
        PAGE | {"data": [TRANSFER, TRANSFER]},
        *[
            PAGE | {"data": [TRANSFER, TRANSFER | {"id": "tr_2Pgc7B"} | flaw]}
            for flaw in (
                {"object": "payout"},
                {"id": "trr_1Pgc7B"},
                {"amount": "1100"},
                {"amount_reversed": None},
                {"currency": None},
                {"destination": "acct_1Other"},
                {"destination": None},
                {"destination": {"id": "acct_1PgafT"}},
                {"metadata": {"order": 17}},
                {"source_transaction": {"id": "ch_1"}},
                {"transfer_group": 17},
            )
        ],
    ],
)
async def test_one_flaw_makes_the_whole_list_unreadable(page: object) -> None:
    outcome, requests = await look_at(always(http(200, page)))

    assert_nothing_is_known(outcome.as_json(), 200)
    assert requests == 1


async def test_what_others_wrote_into_their_transfers_makes_nothing_unreadable() -> None:
    theirs = TRANSFER | {"transfer_group": "\x00 any \ud800 text", "metadata": {"\x1b[31m": "\x00" * 3}}

    outcome, _ = await look_at(always(http(200, PAGE | {"data": [theirs]})))

    assert outcome.found is not None
    assert (outcome.found[0].transfer_group, outcome.found[0].metadata) == ("� any � text", {"�": "���"})


@pytest.mark.parametrize("pages", [100, 101])
async def test_a_hundred_pages_are_read_and_no_more(pages: int) -> None:
    numbers = itertools.count(1)

    async def another_page(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        after = dict(parse_qsl(urlsplit(request.path).query)).get("starting_after")
        assert after == (f"tr_{number - 1}" if number > 1 else None)
        page = PAGE | {"data": [TRANSFER | {"id": f"tr_{number}"}], "has_more": number < pages}
        writer.write(http(200, page))

    outcome, requests = await look_at(another_page)

    assert requests == look_up.PAGE_LIMIT == 100
    assert outcome.found is None if pages > 100 else len(outcome.found or ()) == 100


async def test_the_pages_of_one_look_up_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    first = PAGE | {"has_more": True}
    second = PAGE | {"data": [TRANSFER | {"id": "tr_2Pgc7B"}]}
    size = len(json.dumps(first)) + len(json.dumps(second))

    async def page(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, second if "starting_after" in request.path else first))

    monkeypatch.setattr(look_up, "BYTE_LIMIT", size)
    fits, _ = await look_at(page)
    monkeypatch.setattr(look_up, "BYTE_LIMIT", size - 1)
    does_not, _ = await look_at(page)

    assert fits.found is not None
    assert_nothing_is_known(does_not.as_json(), 200)


# One deadline, one lease.


async def test_one_deadline_covers_all_pages_together(sandbox: Sandbox) -> None:
    sandbox.send(250)
    # Each is well within the deadline, all three are not.
    sandbox.simulator.add_fault("delay", seconds=0.2, times=None, match=LIST)

    async with gateway_to(sandbox.simulator.base_url, key=TEST_KEY, deadline=0.5) as gateway:
        outcome = (await gateway.perform(sandbox.call)).as_json()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "0.5 s" in outcome["error_message"]


@pytest.mark.parametrize("left", [-10.0, 0.0, 4.9, 5.2])
async def test_no_look_up_begins_on_a_lease_that_it_could_outlive(left: float) -> None:
    async with answering(always(http(200, PAGE)), deadline=5.0) as (gateway, requests):
        outcome = (await gateway.perform(a_look_up(lease_ends=boottime_seconds() + left))).as_json()

    assert requests == []
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert "lease" in outcome["error_message"]


async def test_no_page_is_asked_for_when_the_lease_has_ended_since_the_one_before() -> None:
    """The machine was asleep: the clock of leases runs on meanwhile, that of deadlines does not."""
    clock = [0.0]

    async def answer_and_sleep(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        clock[0] += 60.0
        writer.write(http(200, PAGE | {"has_more": True}))

    async with answering(answer_and_sleep, clock=lambda: clock[0]) as (gateway, requests):
        outcome = (await gateway.perform(a_look_up(lease_ends=60.0))).as_json()

    assert len(requests) == 1
    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "lease" in outcome["error_message"]


# Being stopped, and calls that cannot be made.


@WHICH
async def test_a_look_up_stopped_on_its_way_says_so(sandbox: Sandbox, skip: int) -> None:
    made = sandbox.send(101)
    sandbox.simulator.add_fault("hold", name="stop", match=LIST, skip=skip)
    looking = asyncio.create_task(sandbox.look())
    await asyncio.to_thread(sandbox.simulator.wait_for_held, "stop")
    looking.cancel()
    outcome = await looking

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)
    assert "stopped" in outcome["error_message"]
    assert ids(await sandbox.look()) == made


UNFIT: dict[str, list[Any]] = {
    "destination_account": [None, "", "acct_", "acct_1/x", "acct_1\n", "acct_1&limit=1", "ba_1PgafT", "tr_1Pgc7B"],
    "created_after": [None, datetime(2026, 1, 2)],  # of no zone
}


@pytest.mark.parametrize(("part", "bad"), [(part, bad) for part, values in UNFIT.items() for bad in values])
async def test_a_look_up_that_could_find_the_wrong_transfers_is_not_made(part: str, bad: Any) -> None:
    async with answering(always(http(200, PAGE))) as (gateway, requests):
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(replace(a_look_up(), **{part: bad}))).as_json()

    assert requests == []
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert part in outcome["error_message"]
    assert [entry["event"] for entry in logged] == ["call unfit"]
