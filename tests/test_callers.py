"""Who connects to the endpoint and does not deliver: it takes nobody's place, and what it sends is bounded."""

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from runner.callers import CALLER_LIMIT
from tests.support.databases import Database, open_database, value
from tests.support.inbox import comes_to, inbox_that_runs
from tests.support.runners import wait_until
from tests.support.webhooks import PATH, Answer, Endpoint, encoded, endpoint, endpoint_here, event, signature

# Of each kind, together more than there is room for.
FLOOD = 300
GATE = 7_302


def head(**headers: object) -> bytes:
    """A request's head."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def connect(stack: ExitStack, at: Endpoint, *parts: bytes) -> socket.socket:
    """A connection that stays open and has sent these bytes."""
    raw = stack.enter_context(socket.create_connection(("127.0.0.1", at.port), timeout=20))
    for part in parts:
        raw.sendall(part)
    return raw


def is_hung_up(raw: socket.socket) -> bool:
    """Wait for what comes on a connection; true if that is its end, without a word."""
    try:
        return raw.recv(65536) == b""
    except ConnectionResetError:
        return True


def flood(stack: ExitStack, at: Endpoint) -> list[socket.socket]:
    """Connections that look like deliveries as far as they go: half of a body, half of a head."""
    half_body = head(Content_Length=5000, Stripe_Signature=signature(b"unknown")) + b'{"id": "evt_'
    return [connect(stack, at, part) for _ in range(FLOOD) for part in (half_body, half_body[:90])]


def deliver_on(connection: http.client.HTTPConnection, event_id: str) -> Answer:
    """Deliver an event on a connection that may be used again."""
    body = encoded(event(event_id))
    connection.request("POST", PATH, body, {"Stripe-Signature": signature(body)})
    answer = connection.getresponse()
    return Answer(answer.status, dict(answer.headers), answer.read().decode())


def test_hundreds_that_send_half_of_something_keep_no_delivery_out(db: Database, dsn: str, tmp_path: Path) -> None:
    assert 2 * FLOOD > CALLER_LIMIT
    with endpoint(dsn, tmp_path) as at, ExitStack() as stack, closing(at.connection()) as before:
        assert deliver_on(before, "evt_before").result == "ignored"

        waiting = flood(stack, at)

        assert [at.deliver_event(f"evt_{n}").result for n in range(20)] == ["ignored"] * 20
        assert deliver_on(before, "evt_again").result == "ignored"
        # Those that came first made room.
        assert all(is_hung_up(raw) for raw in waiting[: 2 * FLOOD - CALLER_LIMIT])
        waiting[-1].settimeout(0.01)
        with pytest.raises(TimeoutError):
            waiting[-1].recv(1)
        assert at.runner.log("too many connections, or too much of unfinished deliveries")
    assert value(db, "select count(*) from marketplace.stripe_events") == 22


def test_what_the_head_says_is_refused_without_waiting_for_the_body(dsn: str) -> None:
    old = signature(b"anything", age_seconds=301)
    with endpoint_here(dsn, webhook_body_limit=2000) as at, ExitStack() as stack:
        for status, headers in (
            (413, {"Content_Length": 2001, "Stripe_Signature": signature(b"anything")}),
            (400, {"Content_Length": 2000}),
            (400, {"Content_Length": 2000, "Stripe_Signature": "v1=" + 64 * "0"}),
            (400, {"Content_Length": 2000, "Stripe_Signature": "t=1"}),
            (400, {"Content_Length": 2000, "Stripe_Signature": old}),
            (400, {"Content_Length": 2000, "Stripe_Signature": old, "Expect": "100-continue"}),
        ):
            assert connect(stack, at, head(**headers)).recv(13) == b"HTTP/1.1 %d " % status


def test_who_asks_whether_to_go_on_with_the_body_is_told(dsn: str) -> None:
    body = encoded(event("evt_polite"))
    with endpoint_here(dsn) as at, ExitStack() as stack:
        raw = connect(
            stack, at, head(Content_Length=len(body), Stripe_Signature=signature(body), Expect="100-continue")
        )
        assert raw.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert raw.recv(13) == b"HTTP/1.1 200 "


def test_bodies_that_are_not_there_yet_are_bounded_together(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.callers.BYTES_LIMIT", 100_000)
    most = head(Content_Length=40_000, Stripe_Signature=signature(b"anything")) + 30_000 * b" "

    with endpoint_here(dsn) as at, ExitStack() as stack:
        waiting = [connect(stack, at, most) for _ in range(5)]

        assert is_hung_up(waiting[0])
        assert is_hung_up(waiting[1])
        assert at.deliver_event("evt_beside").result == "ignored"
        # What is left of theirs has room now, and is judged.
        waiting[4].sendall(10_000 * b" ")
        assert waiting[4].recv(13) == b"HTTP/1.1 400 "


def test_a_delivery_that_is_being_stored_makes_room_for_nobody(
    db: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.callers.CALLER_LIMIT", 2)
    waits = f"perform pg_advisory_xact_lock_shared({GATE}); {comes_to('acted')}"
    with (
        inbox_that_runs(db, waits),
        closing(open_database(dsn)) as holder,
        endpoint_here(dsn) as at,
        ExitStack() as stack,
        ThreadPoolExecutor(2) as pool,
    ):
        holder.execute(f"select pg_advisory_lock({GATE})".encode())
        stored = [pool.submit(at.deliver_event, f"evt_{n}") for n in range(2)]
        query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
        wait_until(lambda: value(db, query) == 2, "both are being stored")

        assert is_hung_up(connect(stack, at))

        holder.execute("select pg_advisory_unlock_all()")
        assert [answer.result(20).result for answer in stored] == ["acted", "acted"]
