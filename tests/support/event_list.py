"""A Stripe that has nothing but a list of events: for what the simulator's list does not do wrong."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

ACCOUNT = "acct_1QhbgUC8XA12ahlX"

Answer = tuple[int, object]


@dataclass(slots=True)
class EventList:
    """What it has, newest first, and what it was asked for. `spoil` may give another answer to a list's request."""

    base: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    spoil: Callable[[dict[str, list[str]]], Answer | None] = lambda _: None

    def types_asked(self) -> list[set[str]]:
        """The types each request was about."""
        return [{text for name, (text,) in each.items() if name.startswith("types[")} for each in self.asked]

    def answer(self, target: str) -> Answer:
        """What Stripe would say to a GET."""
        url = urlsplit(target)
        if url.path == "/v1/account":
            return 200, {"id": ACCOUNT, "object": "account"}
        if url.path == "/v1/balance":
            return 200, {"object": "balance", "livemode": False}
        query = parse_qs(url.query, strict_parsing=True)
        self.asked.append(query)
        assert url.path == "/v1/events"
        return self.spoil(query) or (200, self._page(query))

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        types = self.types_asked()[-1]
        (since,), (before,) = query["created[gte]"], query["created[lt]"]
        found = [
            event
            for event in self.events
            if event.get("type") in types and int(since) <= event["created"] < int(before)
        ]
        if "starting_after" in query:
            (after,) = query["starting_after"]
            found = found[[event["id"] for event in found].index(after) + 1 :]
        (limit,) = query["limit"]
        return {
            "object": "list",
            "url": "/v1/events",
            "data": found[: int(limit)],
            "has_more": len(found) > int(limit),
        }


@contextmanager
def event_list() -> Iterator[EventList]:
    """Run one until the end of the block."""
    stripe = EventList()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content = stripe.answer(self.path)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stripe.base = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stripe
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(status: int, message: str) -> Answer:
    """An error body of Stripe's."""
    return status, {"error": {"type": "invalid_request_error", "message": message}}
