"""What makes Stripe answer 429: too many requests, or two at once for one object."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import errors


class RateLimiter:
    """A token bucket over all requests; unlimited until `set` says otherwise."""

    def __init__(self) -> None:
        self._per_second: float | None = None
        self._burst = 0.0
        self._tokens = 0.0
        self._filled_at = 0.0

    def set(self, per_second: float | None, burst: int) -> None:
        """Allow `per_second` requests on average (null: any number) and `burst` at once, starting full."""
        self._per_second = per_second
        self._burst = self._tokens = float(burst)
        self._filled_at = time.monotonic()

    def admit(self) -> None:
        """Take a token; raises StripeError (429 rate_limit) when there is none."""
        if self._per_second is None:
            return
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            raise errors.rate_limited()
        self._tokens -= 1


class ObjectLocks:
    """Refuses a second write to an object while one is under way.

    Execution itself takes no time here, so writes only overlap where a delay or a hold stretches one.
    """

    def __init__(self) -> None:
        self.enabled = True
        self._locked: set[tuple[bool, str]] = set()

    @contextmanager
    def hold(self, livemode: bool, object_id: str | None) -> Iterator[None]:
        """Lock an object (null: nothing to lock); raises StripeError (429 lock_timeout) if it is locked."""
        if object_id is None or not self.enabled:
            yield
            return
        lock = (livemode, object_id)
        if lock in self._locked:
            raise errors.lock_timeout()
        self._locked.add(lock)
        try:
            yield
        finally:
            self._locked.remove(lock)
