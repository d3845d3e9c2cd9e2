"""The gateway against servers that answer as Stripe does, and against servers that do everything else."""

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import stripe
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.clock import boottime_seconds
from runner.gateway import Gateway
from runner.outcome import UnreadableObject, not_sent, read_reversal
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from runner.stripe_http import Exchange, NoAnswer, NothingSent, StripeHttp
from tests.support.gateways import KEY, TOKEN, Call, answering, assert_nothing_is_known, gateway_to, outcome_of
from tests.support.raw_http import Answer, RawRequest, always, hang, hang_half_way, http, raw_server

REVERSAL = {
    "id": "trr_1Pgc7B",
    "object": "transfer_reversal",
    "amount": 1100,
    "balance_transaction": None,
    "created": 1234567890,
    "currency": "usd",
    "destination_payment_refund": None,
    "metadata": {"order": "17"},
    "source_refund": None,
    "transfer": "tr_1Pgc7B",
}
ACCOUNT = {"id": "acct_1PgafT", "object": "account"}
BALANCE = {"object": "balance", "livemode": False}


# What is sent, and the shape of what is reported.


async def test_a_reversal_is_asked_for_with_amount_metadata_and_key() -> None:
    async with answering(always(http(200, REVERSAL))) as (gateway, requests):
        await gateway.perform(Call())

    (request,) = requests
    assert (request.method, request.path) == ("POST", "/v1/transfers/tr_1Pgc7B/reversals")
    assert dict(parse_qsl(request.body)) == {"amount": "1100", "metadata[order]": "17", "metadata[row]": "7"}
    assert request.headers["idempotency-key"] == "reversal:db:tr_1Pgc7B:re_1:0:1"
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_an_outcome_has_every_key_of_its_shape() -> None:
    outcome = await outcome_of(always(http(200, REVERSAL, {"Request-Id": "req_1", "Idempotent-Replayed": "true"})))

    assert isinstance(outcome.pop("duration_ms"), int)
    assert outcome == {
        "id": 7,
        "action": "reverse",
        "lease_token": TOKEN,
        "sent": True,
        "http_status": 200,
        "error_type": None,
        "error_code": None,
        "error_message": None,
        "stripe_request_id": "req_1",
        "replayed": True,
        "object": {
            "id": "trr_1Pgc7B",
            "object": "transfer_reversal",
            "amount": 1100,
            "currency": "usd",
            "status": None,
            "transfer": "tr_1Pgc7B",
            "destination": None,
            "metadata": {"order": "17"},
            "amount_reversed": None,
            "transfer_group": None,
            "source_transaction": None,
        },
        "found": None,
    }


async def test_a_reversal_is_reported_as_stripe_tells_it_even_if_it_is_not_the_one_asked_for() -> None:
    told = REVERSAL | {"amount": 1, "currency": "eur", "transfer": "tr_other", "status": "pending", "metadata": {}}

    outcome = await outcome_of(always(http(200, told)))

    assert outcome["error_message"] is None
    assert outcome["replayed"] is False
    found = outcome["object"]
    assert (found["amount"], found["currency"], found["transfer"]) == (1, "eur", "tr_other")
    assert (found["status"], found["metadata"]) == ("pending", {})


async def test_many_calls_share_one_connection_and_carry_no_telemetry() -> None:
    answer = always(http(200, REVERSAL, {"Request-Id": "req_1"}))
    async with raw_server(answer) as server, gateway_to(server.base) as gateway:
        for _ in range(20):
            await gateway.perform(Call())

    assert len(server.requests) == 20
    assert server.connections == 1
    assert not [request for request in server.requests if "x-stripe-client-telemetry" in request.headers]


# Answers of Stripe's that are not a reversal.


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (400, "invalid_request_error", "balance_insufficient"),
        (400, "idempotency_error", None),
        (401, "invalid_request_error", "api_key_expired"),
        (402, "card_error", "insufficient_funds"),
        (403, "invalid_request_error", "account_invalid"),
        (404, "invalid_request_error", "resource_missing"),
        (409, "invalid_request_error", "idempotency_key_in_use"),
        (429, "invalid_request_error", "rate_limit"),
        (429, "invalid_request_error", "lock_timeout"),
        (500, "api_error", None),
        (503, "api_error", None),
    ],
)
async def test_an_error_of_stripes_is_reported_by_type_code_and_message(
    status: int, kind: str, code: str | None
) -> None:
    error = {"type": kind, "message": "In Stripe's words."} | ({"code": code} if code else {})

    outcome = await outcome_of(always(http(status, {"error": error}, {"Request-Id": "req_9"})))

    assert (outcome["http_status"], outcome["error_type"], outcome["error_code"]) == (status, kind, code)
    assert outcome["error_message"] == "In Stripe's words."
    assert outcome["stripe_request_id"] == "req_9"
    assert outcome["object"] is None


async def test_an_error_without_code_and_message_is_still_one_of_stripes() -> None:
    outcome = await outcome_of(always(http(400, {"error": {"type": "invalid_request_error", "code": 5}})))

    assert outcome["error_type"] == "invalid_request_error"
    assert (outcome["error_code"], outcome["error_message"]) == (None, None)


async def test_texts_from_outside_are_cleaned_masked_and_cut() -> None:
    message = "\x00bad \ud800 \x1b[31mkey sk_live_51Secret " + "x" * 500_000
    error = {"type": "invalid_request_error\x00", "code": "c" * 5000, "message": message}

    outcome = await outcome_of(always(http(400, {"error": error}, {"Request-Id": "req_1" + "0" * 3000})))

    assert outcome["error_message"].startswith("�bad � �key sk_live_*** xxx")
    assert (len(outcome["error_message"]), len(outcome["error_code"])) == (1000, 100)
    assert outcome["error_type"] == "invalid_request_error�"
    assert len(outcome["stripe_request_id"]) == 100


async def test_a_notice_of_stripes_is_not_turned_into_a_warning() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        outcome = await outcome_of(always(http(200, REVERSAL, {"Stripe-Notice": "please upgrade"})))

    assert outcome["object"]["id"] == "trr_1Pgc7B"
    assert not [warning for warning in warned if "upgrade" in str(warning.message)]


# Answers that are not Stripe's.


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "x"}),
        (400, {"error": "invalid_request"}),
        (400, {"error": {"message": "no type"}}),
        (400, {"error": {"type": 5}}),
        (400, {"error": None}),
        (400, {}),
        (404, b"<html>Not here</html>"),
        (402, b""),
        (500, b"null"),
        (502, b"<html>Bad gateway</html>"),
        (200, b"<html>Welcome to the hotel</html>"),
        (200, b""),
        (204, b""),
        (200, [1, 2]),
        (200, [REVERSAL]),
        (200, "trr_1Pgc7B"),
        (200, None),
        (200, b'{"id": "trr_1Pgc7B", "obj'),
        (200, b'{"id": "\xff\xfe"}'),
        (200, b"[" * 100_000),
        (200, b'{"amount": ' + b"9" * 5000 + b"}"),
        (300, REVERSAL),
        (302, b""),
        (304, b""),
    ],
)
async def test_an_answer_that_is_not_stripes_leaves_the_outcome_unknown(status: int, body: object) -> None:
    assert_nothing_is_known(await outcome_of(always(http(status, body))), status)


@pytest.mark.parametrize(
    "flaw",
    [
        {"object": "transfer"},
        {"object": "list"},
        {"object": None},
        {"object": ["transfer_reversal"]},
        {"id": None},
        {"id": ""},
        {"id": "tr_1Pgc7B"},
        {"id": "trr_1\x00"},
        {"id": 5},
        {"id": "trr_" + "1" * 300},
        {"amount": "1100"},
        {"amount": 1100.0},
        {"amount": True},
        {"amount": None},
        {"amount": 2**63},
        {"currency": "us\x00d"},
        {"currency": "USD"},
        {"currency": None},
        {"transfer": None},
        {"transfer": {"id": "tr_1Pgc7B"}},
        {"transfer": "tr_1 Pgc7B"},
        {"status": 5},
        {"status": ""},
        {"metadata": ["order"]},
        {"metadata": {"order": 17}},
        {"error": {"type": "api_error"}, "object": "error"},
    ],
)
async def test_an_object_that_cannot_be_trusted_is_not_reported(flaw: dict[str, object]) -> None:
    outcome = await outcome_of(always(http(200, REVERSAL | flaw)))

    assert_nothing_is_known(outcome, 200)
    assert next(iter(flaw)) in outcome["error_message"] or "object" in outcome["error_message"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([*REVERSAL, "status", "amount_reversed"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*REVERSAL.values()]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_reading_an_object_gives_what_stands_there_or_refuses(changes: dict[str, Any]) -> None:
    answer = REVERSAL | changes
    try:
        found = read_reversal(answer)
    except UnreadableObject:
        return
    assert (found.id, found.object, found.amount) == (answer["id"], "transfer_reversal", answer["amount"])
    assert (found.currency, found.transfer) == (answer["currency"], answer["transfer"])
    assert found.status == answer.get("status")


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        elsewhere = request.path == "/elsewhere"
        writer.write(http(200, REVERSAL) if elsewhere else http(302, b"", {"Location": "/elsewhere"}))

    outcome = await outcome_of(redirect)

    assert_nothing_is_known(outcome, 302)
    assert "redirect" in outcome["error_message"]


@pytest.mark.parametrize("size", [(1 << 20) + 1, 10_000_000])
async def test_an_answer_too_long_to_be_stripes_is_not_read_to_its_end(size: int) -> None:
    error = {"error": {"type": "invalid_request_error", "message": "x" * size}}
    assert_nothing_is_known(await outcome_of(always(http(400, error))), 400)


async def test_of_too_much_metadata_what_is_ours_is_kept() -> None:
    theirs = {f"key {number}": "theirs" for number in range(60)}
    outcome = await outcome_of(always(http(200, REVERSAL | {"metadata": theirs | {"seller_transfers_identity": "i"}})))

    kept = outcome["object"]["metadata"]
    assert len(kept) == 50
    assert kept["seller_transfers_identity"] == "i"
    assert set(kept) - {"seller_transfers_identity"} == {f"key {number}" for number in range(49)}


# Connections that fail.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"HTTP/1.1 2", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", None),
        (http(200, REVERSAL)[:-20], 200),
        (http(404, {"error": {"type": "invalid_request_error"}})[:-5], 404),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nnogzip"[:-1], 200),
    ],
)
async def test_a_broken_answer_leaves_the_outcome_unknown(sent: bytes, status: int | None) -> None:
    assert_nothing_is_known(await outcome_of(always(sent, then_close=True)), status)


async def test_a_small_body_that_unpacks_to_a_huge_one_is_not_read_to_its_end() -> None:
    packed = gzip.compress(b'{"object": "' + b"x" * 50_000_000 + b'"}')
    outcome = await outcome_of(always(http(200, packed, {"Content-Encoding": "gzip"})))
    assert_nothing_is_known(outcome, 200)


@pytest.mark.parametrize(("answer", "status"), [(hang, None), (hang_half_way, 200)])
async def test_the_deadline_covers_the_whole_answer(answer: Answer, status: int | None) -> None:
    outcome = await outcome_of(answer, deadline=0.6)

    assert_nothing_is_known(outcome, status)
    assert "0.6 s" in outcome["error_message"]
    assert 600 <= outcome["duration_ms"] < 2500


async def test_an_answer_that_drips_does_not_outlive_the_deadline() -> None:
    async def drip(_request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    outcome = await outcome_of(drip, deadline=0.6)

    assert_nothing_is_known(outcome, 200)
    assert outcome["duration_ms"] < 2000


async def test_a_hundred_bodies_that_hang_half_way_do_not_stop_the_next_call() -> None:
    async def answer(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        await (hang_half_way if "hang" in request.headers["idempotency-key"] else whole)(request, writer)

    whole = always(http(200, REVERSAL))
    async with answering(answer, slots=8, deadline=0.2) as (gateway, requests):
        waiting = iter(range(100))

        async def slot() -> None:
            for number in waiting:
                outcome = (await gateway.perform(Call(idempotency_key=f"hang:{number}"))).as_json()
                # On a busy machine not even the head of an answer comes in time.
                assert_nothing_is_known(outcome, 200 if outcome["http_status"] else None)

        await asyncio.gather(*(slot() for _ in range(8)))
        # Many times the slots; on a busy machine some do not even leave in time.
        assert len(requests) > 50
        outcome = await gateway.perform(Call())

    assert outcome.object is not None


async def test_a_server_that_is_not_there_leaves_the_outcome_unknown() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        async with gateway_to(f"http://127.0.0.1:{reserved.getsockname()[1]}") as gateway:
            outcome = (await gateway.perform(Call())).as_json()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    async with (
        raw_server(always(http(200, REVERSAL)), tls=self_signed_certificate(tmp_path)) as server,
        gateway_to(server.base.replace("http://", "https://")) as gateway,
    ):
        outcome = (await gateway.perform(Call())).as_json()

    assert_nothing_is_known(outcome, None)
    assert "certificate" in outcome["error_message"].lower()
    assert server.requests == []


def self_signed_certificate(folder: Path) -> ssl.SSLContext:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


# Never more than one request, and none on too short a lease.


@pytest.mark.parametrize(
    "answer",
    [
        always(b"", then_close=True),
        always(http(500, {"error": {"type": "api_error"}}, {"Stripe-Should-Retry": "true"})),
        always(http(409, {"error": {"type": "invalid_request_error"}})),
        always(http(429, {"error": {"type": "invalid_request_error"}})),
    ],
)
async def test_nothing_is_tried_twice(answer: Answer) -> None:
    await outcome_of(answer)  # it counts the requests


async def test_a_connection_closed_while_idle_is_not_tried_twice_either() -> None:
    async def close_on_second(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if request.headers["idempotency-key"] == "first":
            writer.write(http(200, REVERSAL))
        else:
            writer.close()

    async with answering(close_on_second) as (gateway, requests):
        await gateway.perform(Call(idempotency_key="first"))
        outcome = await gateway.perform(Call(idempotency_key="second"))

    assert [request.headers["idempotency-key"] for request in requests] == ["first", "second"]
    assert_nothing_is_known(outcome.as_json(), None)


@pytest.mark.parametrize("left", [-10.0, 0.0, 4.9, 5.2])
async def test_nothing_is_sent_on_a_lease_that_the_call_could_outlive(left: float) -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, gateway_to(server.base, deadline=5.0) as gateway:
        outcome = (await gateway.perform(Call(lease_ends=boottime_seconds() + left))).as_json()

    assert server.connections == 0
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert "lease" in outcome["error_message"]


async def test_a_lease_just_long_enough_is_used() -> None:
    async with answering(always(http(200, REVERSAL)), deadline=1.0) as (gateway, requests):
        outcome = await gateway.perform(Call(lease_ends=boottime_seconds() + 2.0))

    assert (outcome.sent, len(requests)) == (True, 1)


async def test_a_machine_that_slept_while_connecting_sends_nothing() -> None:
    # The clock of leases runs on in sleep, that of deadlines does not: so the second look finds it far ahead.
    looks = iter([0.0, 100.0])
    exchange = Exchange(lease_ends=60.0, clock=lambda: next(looks))
    async with raw_server(always(http(200, REVERSAL))) as server, stripe_http() as transport:
        with exchange.current(), pytest.raises(NothingSent):
            await transport.request("post", server.base, {}, "amount=1")

        assert exchange.sent is False
        assert server.connections == 1
        assert server.requests == []


async def test_no_request_can_be_made_but_in_an_exchange() -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, stripe_http() as transport:
        with pytest.raises(NothingSent):
            await transport.request("post", server.base, {}, None)
        with pytest.raises(NothingSent):
            await transport.session.get(server.base)
        with Exchange().current(), pytest.raises(NothingSent):
            await transport.session.get(server.base)

        assert server.requests == []


async def test_an_exchange_is_good_for_one_request() -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, stripe_http() as transport:
        exchange = Exchange()
        with exchange.current():
            await transport.request("post", server.base, {}, None)
            with pytest.raises(NoAnswer), structlog.testing.capture_logs() as logged:
                await transport.request("post", server.base, {}, None)

        assert [entry["log_level"] for entry in logged] == ["error"]
        assert exchange.sent is True
        assert len(server.requests) == 1


def stripe_http() -> StripeHttp:
    return StripeHttp(slots=2, deadline_seconds=5, ca_file=stripe.ca_bundle_path, proxy=None)


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        *[
            ("stripe_transfer_id", bad)
            for bad in (None, "", "tr_", "tr_1/reversals", "tr_1 ", "tr_1\n", "../tr_1", "trr_1", "tr_1%2F", "tr_é")
        ],
        *[("idempotency_key", bad) for bad in ("", " ", "a\r\nX: y", "a\x00", "a" * 256)],
        *[("amount", bad) for bad in (0, -1)],
        ("metadata", None),
        ("metadata", {}),
    ],
)
async def test_a_call_that_cannot_be_made_safely_is_not_made(part: str, bad: Any) -> None:
    call = replace(Call(), **{part: bad})
    async with raw_server(always(http(200, REVERSAL))) as server, gateway_to(server.base) as gateway:
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(call)).as_json()

    assert server.connections == 0
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert part in outcome["error_message"]
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("call unfit", "error")]


async def test_an_action_of_a_newer_database_is_reported_and_logged() -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, gateway_to(server.base) as gateway:
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(Call(action="look_up_moon"))).as_json()

    assert server.connections == 0
    assert (outcome["sent"], outcome["action"]) == (False, "look_up_moon")
    assert "look_up_moon" in outcome["error_message"]
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("action unknown", "error")]


async def test_what_the_sdk_cannot_send_is_reported_and_logged() -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, gateway_to(server.base) as gateway:
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(Call(metadata={"order": "\ud800"}))).as_json()

    assert server.connections == 0
    assert outcome["sent"] is False
    assert_nothing_is_known(outcome, None)
    assert [entry["log_level"] for entry in logged] == ["error"]


async def test_an_answer_counts_even_if_the_sdk_stumbles_over_a_part_of_it() -> None:
    nested: Any = {}
    for _ in range(400):
        nested = {"inside": nested}
    odd = REVERSAL | {"source_refund": nested}
    with pytest.raises(RecursionError):
        stripe.TransferReversal.construct_from(odd, None)

    outcome = await outcome_of(always(http(200, odd)))

    assert outcome["object"]["id"] == "trr_1Pgc7B"


# Being stopped.


async def test_a_call_stopped_on_its_way_is_reported_as_sent_and_unknown() -> None:
    arrived = asyncio.Event()

    async def arrive(_request: RawRequest, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.sleep(20)

    async with answering(arrive) as (gateway, _):
        call = asyncio.create_task(gateway.perform(Call()))
        await asyncio.wait_for(arrived.wait(), 5)
        call.cancel()
        outcome = (await call).as_json()

    assert outcome["sent"] is True
    assert_nothing_is_known(outcome, None)


async def test_a_call_stopped_before_its_first_step_is_for_the_caller_to_report() -> None:
    async with raw_server(always(http(200, REVERSAL))) as server, gateway_to(server.base) as gateway:
        call = asyncio.create_task(gateway.perform(Call()))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        outcome = not_sent(Call(), "the runner stops").as_json()

        assert server.connections == 0
    assert (outcome["id"], outcome["lease_token"], outcome["sent"]) == (7, TOKEN, False)
    assert outcome["error_message"] == "the runner stops"


async def test_calls_stopped_half_way_free_their_connections() -> None:
    arrived = asyncio.Event()

    async def answer(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await (hang_half_way if request.headers["idempotency-key"] == "hang" else whole)(request, writer)

    whole = always(http(200, REVERSAL))
    async with answering(answer, slots=1) as (gateway, _):
        for _ in range(3):
            arrived.clear()
            call = asyncio.create_task(gateway.perform(Call(idempotency_key="hang")))
            await asyncio.wait_for(arrived.wait(), 5)
            call.cancel()
            assert (await call).sent is True
        outcome = await gateway.perform(Call())

    assert outcome.object is not None


# Whose key it is.


def by_path(answers: dict[str, bytes]) -> Answer:
    async def reply(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[request.path])

    return reply


def refusal(status: int) -> bytes:
    return http(status, {"error": {"type": "invalid_request_error", "message": f"Not with {KEY}."}})


@pytest.mark.parametrize(
    ("account", "balance", "key", "expected"),
    [
        (http(200, ACCOUNT), http(200, BALANCE), KEY, Account("acct_1PgafT", False)),
        (http(200, ACCOUNT), http(200, BALANCE | {"livemode": True}), "sk_live_1", Account("acct_1PgafT", True)),
        (http(200, ACCOUNT), refusal(403), "rk_live_1", Account("acct_1PgafT", True)),
        (http(200, ACCOUNT), refusal(403), "rk_test_1", Account("acct_1PgafT", False)),
        (refusal(403), http(200, BALANCE | {"livemode": True}), "rk_live_1", Account(None, True)),
    ],
)
async def test_account_and_mode_are_found_even_if_one_may_not_be_seen(
    account: bytes, balance: bytes, key: str, expected: Account
) -> None:
    answer = by_path({"/v1/account": account, "/v1/balance": balance})
    async with answering(answer, key=key) as (gateway, requests):
        assert await gateway.check_account() == expected
    assert {request.headers["authorization"] for request in requests} == {f"Bearer {key}"}


@pytest.mark.parametrize(
    ("account", "balance"),
    [
        (refusal(401), refusal(401)),
        (http(200, ACCOUNT), refusal(401)),
        (refusal(403), refusal(403)),
    ],
)
async def test_a_refused_key_is_told_in_a_line_without_the_key(account: bytes, balance: bytes) -> None:
    async with answering(by_path({"/v1/account": account, "/v1/balance": balance})) as (gateway, _):
        with pytest.raises(KeyRefused) as caught:
            await gateway.check_account()

    assert "sk_test_***" in str(caught.value)
    assert "51Secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        always(refusal(500)),
        always(refusal(429)),
        always(refusal(404)),
        always(http(401, b"<html>who are you?</html>")),
        always(http(200, b"<html>hello\x1b[2J</html>")),
        always(http(200, {"hello": "world"})),
        always(http(200, ACCOUNT | {"id": "acct_1\n2"})),
        always(http(302, b"", {"Location": "/"})),
        always(b"", then_close=True),
        hang,
    ],
)
async def test_a_stripe_that_cannot_be_asked_is_told_in_a_line(answer: Answer) -> None:
    async with answering(answer, deadline=1.0) as (gateway, _):
        with pytest.raises(StripeUnreachable) as caught:
            await gateway.check_account()

    assert str(caught.value).isprintable()
    assert "51Secret" not in str(caught.value)


# The way there.


async def test_a_proxy_of_the_environment_is_not_used_for_a_base_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(always(http(503, b""))) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        outcome = await outcome_of(always(http(200, REVERSAL)))

        assert outcome["object"]["id"] == "trr_1Pgc7B"
        assert proxy.connections == 0


async def test_a_proxy_of_the_environment_is_used_on_the_way_to_stripe(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(always(http(503, b""))) as proxy:
        monkeypatch.setenv("https_proxy", proxy.base)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with Gateway(KEY, None, 1, 5.0) as gateway:
            outcome = (await gateway.perform(Call())).as_json()

    assert_nothing_is_known(outcome, None)
    assert [(request.method, request.path) for request in proxy.requests] == [("CONNECT", "api.stripe.com:443")]
    assert not [request for request in proxy.requests if "authorization" in request.headers]


# Against the sandbox's Stripe.


@pytest.fixture
async def sandbox(simulator: SimulatorClient) -> AsyncIterator[tuple[SimulatorClient, Gateway, Call]]:
    """A simulator with one transfer of 1100 usd, a gateway to it and the call that reverses the transfer."""
    account = simulator.create_account()
    transfer = simulator.create_transfer(account, 1100, "usd")
    async with gateway_to(simulator.base_url, key=TEST_KEY) as gateway:
        yield simulator, gateway, Call(stripe_transfer_id=transfer)


Sandbox = tuple[SimulatorClient, Gateway, Call]


async def test_a_transfer_is_reversed_once_and_a_second_call_replays_it(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox

    first = await gateway.perform(call)
    second = await gateway.perform(call)

    (entry,) = simulator.ledger(kind="reversal")
    assert first.object is not None
    assert (first.object.transfer, first.object.amount, first.object.currency) == (
        call.stripe_transfer_id,
        1100,
        "usd",
    )
    assert first.object.metadata == {"order": "17", "row": "7"}
    assert first.object == second.object
    assert (first.replayed, second.replayed) == (False, True)
    assert first.object.id in repr(entry)
    assert (first.stripe_request_id or "").startswith("req_")


async def test_a_transfer_that_is_gone_already_unknown_or_not_ours_is_told_apart(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox

    await gateway.perform(call)
    again = await gateway.perform(replace(call, idempotency_key="another"))
    unknown = await gateway.perform(replace(call, idempotency_key="a third", stripe_transfer_id="tr_1Nothing"))
    reused = await gateway.perform(replace(call, amount=1))
    simulator.revoke_key()
    refused = await gateway.perform(call)

    assert (again.http_status, again.error_type, again.error_code) == (400, "invalid_request_error", None)
    assert again.error_message == f"The transfer {call.stripe_transfer_id} is already fully reversed."
    assert (unknown.http_status, unknown.error_code) == (404, "resource_missing")
    assert (reused.http_status, reused.error_type) == (400, "idempotency_error")
    assert refused.http_status == 401
    assert not [outcome for outcome in (again, unknown, reused, refused) if outcome.object]
    assert len(simulator.ledger(kind="reversal")) == 1


async def test_a_key_in_flight_and_a_locked_transfer_are_told_apart(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox
    simulator.add_fault("hold", name="in flight")

    first = asyncio.create_task(gateway.perform(call))
    await asyncio.to_thread(simulator.wait_for_held, "in flight")
    same_key = await gateway.perform(call)
    simulator.release("in flight")
    simulator.set_limits(1, burst=1)
    refused = [await gateway.perform(replace(call, idempotency_key=f"key {number}")) for number in range(2)][-1]
    simulator.set_limits(None)

    assert (await first).object is not None
    assert (same_key.http_status, same_key.error_code) == (409, "idempotency_key_in_use")
    assert (refused.http_status, refused.error_code) == (429, "rate_limit")


async def test_a_lost_answer_is_unknown_and_the_same_key_finds_what_was_done(sandbox: Sandbox) -> None:
    simulator, gateway, call = sandbox
    simulator.add_fault("drop_after")

    lost = await gateway.perform(call)
    found = await gateway.perform(call)

    assert_nothing_is_known(lost.as_json(), None)
    assert found.object is not None
    assert found.replayed is True
    assert len(simulator.ledger(kind="reversal")) == 1


async def test_the_account_and_mode_of_the_sandbox_are_found(sandbox: Sandbox) -> None:
    simulator, gateway, _ = sandbox

    account = await gateway.check_account()
    assert account.id is not None
    assert account.livemode is False

    simulator.revoke_key()
    with pytest.raises(KeyRefused):
        await gateway.check_account()
