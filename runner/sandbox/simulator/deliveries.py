"""Webhooks: every event posted to the endpoints that want it, signed, at least once and in no particular order.

What is not answered 2xx is tried again, sooner than Stripe would. On command an endpoint is treated worse than by
default: events are dropped, sent twice, late, or in another order, by a generator with a seed of its own.
"""

import asyncio
import hashlib
import hmac
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from .events import Event
from .objects import new_id
from .requestlog import LoggedDelivery

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5
_GATHER_SECONDS = 0.05  # how long events wait for others to change places with


@dataclass(frozen=True, slots=True)
class Terms:
    """What an endpoint is, and how it is treated.

    `types` are the events it wants, "*" for all. Of `secrets` each signs. `attempts` bounds the tries, each of at
    most `timeout_seconds`, and `at_once` how many are under way. `drop` and `duplicate` are probabilities,
    `delay_seconds` is the longest delay, `reorder` how many events gather to be shuffled (1: none).
    """

    url: str
    secrets: Sequence[str]
    types: Sequence[str] = ("*",)
    livemode: bool = False
    attempts: int = 20
    timeout_seconds: float = 10.0
    at_once: int = 8
    drop: float = 0.0
    duplicate: float = 0.0
    delay_seconds: float = 0.0
    reorder: int = 1
    seed: int = 0


@dataclass(slots=True)
class _Endpoint:
    id: str
    terms: Terms
    generator: random.Random
    slots: asyncio.Semaphore
    waited_for: set[str] = field(default_factory=set)
    gathered: list[tuple[Event, bool]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None

    def wants(self, event: Event) -> bool:
        return event.livemode == self.terms.livemode and any(each in ("*", event.type) for each in self.terms.types)


class Deliveries:
    """All endpoints and what was sent to them. Lives in one event loop, and has nothing in it while there are none."""

    def __init__(self) -> None:
        self.log: list[LoggedDelivery] = []
        self._endpoints: dict[str, _Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: asyncio.Future[aiohttp.ClientSession] | None = None
        self._session_keeper: asyncio.Task[None] | None = None

    def register(self, terms: Terms) -> str:
        """Have events delivered from now on; gives the endpoint's id."""
        if self._session is None:
            loop = asyncio.get_running_loop()
            self._session = loop.create_future()
            self._session_keeper = loop.create_task(_keep_session(self._session))
        generator = random.Random(terms.seed)  # noqa: S311 - repeatable, not secret
        endpoint = _Endpoint(new_id("we"), terms, generator, asyncio.Semaphore(terms.at_once))
        self._endpoints[endpoint.id] = endpoint
        return endpoint.id

    def remove(self, endpoint_id: str) -> None:
        """Have no further event delivered there; what is under way goes on. Raises ValueError for an unknown one."""
        endpoint = self._endpoints.pop(endpoint_id, None)
        if endpoint is None:
            raise ValueError(f"no such endpoint: {endpoint_id}")
        self._send_gathered(endpoint)

    @property
    def under_way(self) -> int:
        """How many deliveries have neither been taken nor given up."""
        return len(self._tasks) + sum(len(each.gathered) for each in self._endpoints.values())

    def post(self, event: Event) -> None:
        """Deliver an event to every endpoint that wants it."""
        for endpoint in self._endpoints.values():
            if not endpoint.wants(event):
                continue
            event.pending_webhooks += 1
            endpoint.waited_for.add(event.id)
            if endpoint.generator.random() < endpoint.terms.drop:
                entry = self._begin(endpoint, event, 1, duplicate=False)
                entry.dropped, entry.finished_at = True, entry.at
                continue
            endpoint.gathered.append((event, False))
            if endpoint.generator.random() < endpoint.terms.duplicate:
                endpoint.gathered.append((event, True))
            if len(endpoint.gathered) >= endpoint.terms.reorder:
                self._send_gathered(endpoint)
            elif endpoint.timer is None:
                loop = asyncio.get_running_loop()
                endpoint.timer = loop.call_later(_GATHER_SECONDS, self._send_gathered, endpoint)

    def close(self) -> None:
        """Deliver nothing any more."""
        for endpoint in self._endpoints.values():
            if endpoint.timer is not None:
                endpoint.timer.cancel()
        self._endpoints.clear()
        for task in self._tasks:
            task.cancel()
        if self._session_keeper is not None:
            self._session_keeper.cancel()

    def _send_gathered(self, endpoint: _Endpoint) -> None:
        if endpoint.timer is not None:
            endpoint.timer.cancel()
            endpoint.timer = None
        going, endpoint.gathered = endpoint.gathered, []
        if endpoint.terms.reorder > 1:
            endpoint.generator.shuffle(going)
        for event, duplicate in going:
            delay = endpoint.generator.uniform(0, endpoint.terms.delay_seconds)
            task = asyncio.get_running_loop().create_task(self._deliver(endpoint, event, delay, duplicate=duplicate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, endpoint: _Endpoint, event: Event, delay: float, *, duplicate: bool) -> None:
        if delay:
            await asyncio.sleep(delay)
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(1, endpoint.terms.attempts + 1):
            async with endpoint.slots:
                entry = self._begin(endpoint, event, attempt, duplicate=duplicate)
                try:
                    entry.status = await self._attempt(endpoint.terms, event)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    entry.error = f"{type(error).__name__}: {error}"
                entry.finished_at = time.time()
            if entry.status is not None and 200 <= entry.status < 300:
                if event.id in endpoint.waited_for:
                    endpoint.waited_for.remove(event.id)
                    event.pending_webhooks -= 1
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _begin(self, endpoint: _Endpoint, event: Event, attempt: int, *, duplicate: bool) -> LoggedDelivery:
        entry = LoggedDelivery(
            len(self.log) + 1, endpoint.id, event.id, event.type, attempt, time.time(), duplicate=duplicate
        )
        self.log.append(entry)
        return entry

    async def _attempt(self, terms: Terms, event: Event) -> int:
        assert self._session is not None  # noqa: S101 - there is one once there is an endpoint
        session = await asyncio.shield(self._session)
        body = json.dumps(event.body()).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, terms.secrets, int(time.time())),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        timeout = aiohttp.ClientTimeout(total=terms.timeout_seconds)
        async with session.post(
            terms.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status


def signature(body: bytes, secrets: Sequence[str], at: int) -> str:
    """Give the header `Stripe-Signature` for a body sent `at` seconds since the epoch, a `v1` for each secret."""
    signed = f"{at}.".encode() + body
    digests = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])


async def _keep_session(ready: "asyncio.Future[aiohttp.ClientSession]") -> None:
    """Hold the session open until cancelled. Each endpoint bounds its own connections."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        ready.set_result(session)
        await asyncio.Event().wait()
