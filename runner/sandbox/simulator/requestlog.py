"""The logs: of every request to Stripe's side of the simulator, in order of arrival, and of every webhook posted."""

import time
from dataclasses import dataclass
from typing import Any, Literal

Delivered = Literal["whole", "half", "none"]


@dataclass(slots=True)
class LoggedRequest:
    """One request, written down when it arrived and completed when it was done with.

    `arrived_at` and `finished_at` are real wall-clock seconds, the `_monotonic` pair this machine's monotonic
    clock; the finished ones are null while the request is under way. `executed`: the endpoint ran, whatever
    it answered. `replayed`: the answer was a stored one. `status` is what was answered, null where the
    connection was closed instead; `delivered` is how much of the answer was sent. `fault` is the id of the
    rule that was applied. A request whose execution a rule put off has `executed` false; the later execution
    is a log entry of its own, with `late_of`.
    """

    seq: int
    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None
    key_suffix: str | None
    arrived_at: float
    arrived_monotonic: float
    finished_at: float | None = None
    finished_monotonic: float | None = None
    status: int | None = None
    request_id: str | None = None
    executed: bool = False
    replayed: bool = False
    delivered: Delivered | None = None
    fault: int | None = None
    late_of: int | None = None

    def finish(self, status: int | None, delivered: Delivered | None) -> None:
        """Complete the entry, once."""
        self.status = status
        self.delivered = delivered
        self.finished_at = time.time()
        self.finished_monotonic = time.monotonic()


class RequestLog:
    """Grows by one entry a request (about 1 kB) until the simulator is reset."""

    def __init__(self) -> None:
        self.entries: list[LoggedRequest] = []

    def arrived(
        self,
        method: str,
        path: str,
        params: dict[str, Any],
        *,
        idempotency_key: str | None,
        key_suffix: str | None,
        late_of: int | None = None,
    ) -> LoggedRequest:
        """Add an entry for a request that has just come in."""
        entry = LoggedRequest(
            seq=len(self.entries) + 1,
            method=method,
            path=path,
            params=params,
            idempotency_key=idempotency_key,
            key_suffix=key_suffix,
            arrived_at=time.time(),
            arrived_monotonic=time.monotonic(),
            late_of=late_of,
        )
        self.entries.append(entry)
        return entry


@dataclass(slots=True)
class LoggedDelivery:
    """One attempt to deliver an event, or (`dropped`) that there was none.

    `status` is what the endpoint answered; null with an `error` if it did not, null with none while under way. Times
    are real wall-clock seconds.
    """

    seq: int
    endpoint: str
    event: str
    type: str
    attempt: int
    at: float
    duplicate: bool = False
    dropped: bool = False
    status: int | None = None
    error: str | None = None
    finished_at: float | None = None
