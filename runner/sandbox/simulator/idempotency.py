"""Stripe's idempotency keys.

The first answer given once execution began is stored and replayed, an error as much as a success; answers
from before execution are not. The parameters of every use are compared with those of the first. While the
first use is under way any other is refused. After 24 hours a key is forgotten, and the same request executes
anew.
"""

from dataclasses import dataclass
from typing import Any

from . import errors
from .ledger import Clock

KEY_LIMIT = 255  # characters
KEPT_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client: `request_id` is that of the request which was executed for it."""

    status: int
    body: bytes
    request_id: str
    headers: dict[str, str]
    replayed: bool = False


@dataclass(slots=True)
class _Use:
    """The first use of a key. Without an `answer` it left nothing to replay (yet)."""

    path: str
    params: dict[str, Any]
    used_at: float
    in_flight: bool = True
    answer: Answer | None = None


Scope = tuple[bool, str]
"""A key belongs to one account and mode; there is one platform account here, so: (livemode, key)."""


class IdempotencyKeys:
    """All keys in use, by the simulator's own clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[Scope, _Use] = {}

    def _use(self, scope: Scope) -> _Use | None:
        use = self._uses.get(scope)
        if use is not None and not use.in_flight and self._clock.now() - use.used_at >= KEPT_SECONDS:
            del self._uses[scope]
            return None
        return use

    def has_answer(self, scope: Scope) -> bool:
        """Whether a request under this key would be answered without being executed."""
        use = self._use(scope)
        return use is not None and use.answer is not None

    def begin(self, scope: Scope, path: str, params: dict[str, Any]) -> Answer | None:
        """Take the key for a first use (null), or give the answer stored under it.

        Raises StripeError: other parameters or endpoint (400), first use still under way (409), overlong key
        (400).
        """
        key = scope[1]
        if len(key) > KEY_LIMIT:
            raise errors.key_too_long(KEY_LIMIT)
        use = self._use(scope)
        if use is None:
            self._uses[scope] = _Use(path, params, self._clock.now())
            return None
        if use.path != path:
            raise errors.key_of_other_endpoint(key, path, use.path)
        if use.params != params:
            raise errors.key_of_other_parameters(key)
        if use.in_flight:
            raise errors.key_in_use(key)
        return use.answer

    def store(self, scope: Scope, answer: Answer) -> None:
        """Keep the answer of the use under way."""
        self._uses[scope].answer = answer

    def finish(self, scope: Scope) -> None:
        """End the use under way; if it stored nothing the key is as good as never used."""
        use = self._uses[scope]
        use.in_flight = False
        if use.answer is None:
            del self._uses[scope]

    def forget(self, key: str | None, older_than_seconds: float = 0) -> int:
        """Forget `key` (null: all) in both modes, as 24 hours would; gives how many.

        None in flight, and none whose first use is younger than `older_than_seconds`.
        """
        latest = self._clock.now() - older_than_seconds
        gone = [
            scope
            for scope, use in self._uses.items()
            if not use.in_flight and key in (None, scope[1]) and use.used_at <= latest
        ]
        for scope in gone:
            del self._uses[scope]
        return len(gone)
