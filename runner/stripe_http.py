"""One HTTP request to Stripe, bounded in time and size, and never written on too short a lease.

Knows HTTP and leases, not Stripe's SDK: the gateway puts it under the SDK's client.
"""

import asyncio
import json
import math
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.connector import Connection

from runner.clean import safe_text
from runner.clock import boottime_seconds

_log = structlog.get_logger()

MAX_BODY_BYTES = 1 << 20

# On top of the deadline: a deadline is kept by an event loop that may be busy for a moment.
LEASE_MARGIN_SECONDS = 0.25

# What the SDK gets to see. Others it acts upon: it turns a Stripe-Notice into a Python warning.
_KEPT_HEADERS = ("Request-Id", "Idempotent-Replayed")

_CHUNK_BYTES = 1 << 16


class NothingSent(Exception):
    """The request was stopped before a byte of it was written; the text says why."""


class NoAnswer(Exception):
    """No answer of Stripe's came, or none that can be read; the text says in words what came instead."""


@dataclass(slots=True)
class Exchange:
    """One request and what came of it; good for a single request.

    `lease_ends` is in seconds on `clock`; infinite for a request that belongs to no row. `gives_up_at`, on
    time.monotonic(), is when all must be over that this request is a part of, if that is sooner than its own deadline.
    """

    lease_ends: float = math.inf
    clock: Callable[[], float] = boottime_seconds
    gives_up_at: float = math.inf
    body_limit: int = MAX_BODY_BYTES
    sent: bool = field(default=False, init=False)  # handed over: a byte may have left
    written: bool = field(default=False, init=False)
    http_status: int | None = field(default=None, init=False)
    request_id: str | None = field(default=None, init=False)
    replayed: bool | None = field(default=None, init=False)
    body_bytes: int = field(default=0, init=False)
    # If Stripe answered, one of these: the JSON object of a 2xx, or the inside of an error body.
    object: dict[str, Any] | None = field(default=None, init=False)
    error: dict[str, Any] | None = field(default=None, init=False)

    @property
    def answered(self) -> bool:
        """Whether Stripe said something that can be read."""
        return self.object is not None or self.error is not None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the exchange of the request made inside the block, however deep the SDK buries it."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    def begin(self, deadline_seconds: float) -> None:
        """Hand the request over, to be finished within the deadline. Raises NothingSent."""
        if self.sent:
            _log.error("a second request for one exchange was refused")
            raise NoAnswer("a second request for one exchange was refused")
        now = time.monotonic()
        if now >= self.gives_up_at:
            raise NothingSent(f"the {deadline_seconds:g} s for the call were over before its next request")
        self.gives_up_at = min(self.gives_up_at, now + deadline_seconds)
        self.check_lease()
        self.sent = True

    def write(self) -> None:
        """Note that the request is about to be written. Raises NoAnswer if it has been before, or NothingSent."""
        if self.written:
            raise NoAnswer("no answer: the connection broke")
        self.check_lease()
        self.written = True

    def check_lease(self) -> None:
        """Raise NothingSent if the call could outlive the lease."""
        needed = max(0.0, self.gives_up_at - time.monotonic()) + LEASE_MARGIN_SECONDS
        left = self.lease_ends - self.clock()
        if left < needed:
            self.sent = False
            raise NothingSent(f"the lease has {left:.1f} s left and the call may take {needed:.1f} s")

    def note_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Keep what the head of the answer says."""
        self.http_status = status
        request_id = headers.get("Request-Id")
        self.request_id = None if request_id is None else safe_text(request_id, 100)
        self.replayed = headers.get("Idempotent-Replayed", "").lower() == "true"

    def note_body(self, body: bytes) -> None:
        """Keep the body if it is what Stripe sends with such a status. Raises NoAnswer for anything else."""
        self.body_bytes = len(body)
        try:
            answer = json.loads(body.decode())
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and self._is_success():
            self.object = answer
        elif isinstance(answer, dict) and _is_error(answer.get("error")):
            self.error = answer["error"]
        else:
            raise NoAnswer(self._what_came(body))

    def _is_success(self) -> bool:
        return self.http_status is not None and 200 <= self.http_status < 300

    def _what_came(self, body: bytes) -> str:
        if self.http_status is not None and 300 <= self.http_status < 400:
            return f"HTTP {self.http_status}: a redirect, which is not followed"
        wanted = "a JSON object" if self._is_success() else "an error body of Stripe's"
        start = safe_text(body[:1000].decode(errors="replace"), 200)
        return f"HTTP {self.http_status} without {wanted}: {start or 'the body is empty'}"


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def _current_exchange() -> Exchange:
    exchange = _current.get()
    if exchange is None:
        raise NothingSent("a request outside any exchange was refused")
    return exchange


def _is_error(error: object) -> bool:
    return isinstance(error, dict) and isinstance(error.get("type"), str)


def proxy_of_the_environment(base: str) -> str | None:
    """Give the proxy that HTTPS_PROXY and NO_PROXY ask for on the way to `base`; aiohttp alone takes none."""
    if urllib.request.proxy_bypass(urlsplit(base).netloc):
        return None
    return urllib.request.getproxies().get("https")


class _LeasedRequest(aiohttp.ClientRequest):
    """Checks the lease again in the last line before a byte is written: the machine may have been asleep.

    And writes once: aiohttp would send a GET again by itself when the connection breaks.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        exchange = _current_exchange()
        if not exchange.sent:  # some other way to the session than StripeHttp.request
            raise NothingSent("a request that nobody counts was refused")
        exchange.write()
        return await super().send(conn)


class StripeHttp:
    """A pool of at most `slots` connections. An async context manager."""

    def __init__(self, *, slots: int, deadline_seconds: float, ca_file: str, proxy: str | None) -> None:
        self._slots = slots
        self._deadline_seconds = deadline_seconds
        self._ca_file = ca_file
        self._proxy = proxy
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._ca_file)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._slots, ssl=context),
            request_class=_LeasedRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            # The deadline below covers everything; proxies and netrc of the environment are not asked.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.session.close()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], data: str | None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Make the current exchange's request and give body, status and headers for the SDK to read.

        The exchange keeps the facts. Raises NothingSent or NoAnswer, and nothing else but a cancellation.
        """
        exchange = _current_exchange()
        exchange.begin(self._deadline_seconds)
        try:
            async with (
                asyncio.timeout(exchange.gives_up_at - time.monotonic()),
                # Leaving this block, however it is left, frees the connection or closes it.
                self.session.request(
                    method, url, headers=headers, data=data, proxy=self._proxy, allow_redirects=False
                ) as response,
            ):
                exchange.note_headers(response.status, response.headers)
                body = await _read_bounded(response, exchange.body_limit)
        except (NothingSent, NoAnswer):
            raise
        except Exception as error:
            raise NoAnswer(self._in_words(error, exchange.http_status)) from error
        exchange.note_body(body)
        kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return body, response.status, kept

    def _in_words(self, error: Exception, status: int | None) -> str:
        what = f"HTTP {status}, but the answer is not complete" if status else "no answer"
        if isinstance(error, TimeoutError):
            return f"{what} after {self._deadline_seconds:g} s"
        return f"{what}: {type(error).__name__}: {error}"


async def _read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise NoAnswer(f"HTTP {response.status} with an answer longer than {limit} bytes")
    return bytes(body)
