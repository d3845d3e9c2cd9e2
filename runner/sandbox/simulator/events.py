"""Events: what happened, as Stripe tells it, in the list and to webhook endpoints.

An event is cheap until somebody reads it: it keeps a copy of its object, and makes the JSON of that when asked to.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .calls import DEFAULT_API_VERSION
from .ledger import Cause, Clock
from .objects import new_id
from .wire import Json

KEPT_SECONDS = 30 * 24 * 60 * 60
KEPT_EVENTS = 50_000  # of each mode; who makes more in a simulator loses the oldest


@dataclass(slots=True)
class Event:
    """Something that happened. `pending_webhooks` counts the endpoints that have not taken it yet."""

    id: str
    seq: int
    created: int
    livemode: bool
    type: str
    data_object: Callable[[], Json]
    previous_attributes: Json | None
    cause: Cause
    pending_webhooks: int = 0

    def body(self) -> Json:
        """Give the event as JSON."""
        data: Json = {"object": self.data_object()}
        if self.previous_attributes is not None:
            data["previous_attributes"] = self.previous_attributes
        return {
            "id": self.id,
            "object": "event",
            "api_version": DEFAULT_API_VERSION,
            "created": self.created,
            "data": data,
            "livemode": self.livemode,
            "pending_webhooks": self.pending_webhooks,
            "request": {"id": self.cause.request_id, "idempotency_key": self.cause.idempotency_key},
            "type": self.type,
        }


class Events:
    """The events of one mode, kept for 30 days of simulated time."""

    def __init__(self, clock: Clock, *, livemode: bool, announce: Callable[[Event], None]) -> None:
        self._clock = clock
        self._livemode = livemode
        self._announce = announce
        self._last_seq = 0
        self._oldest_first: deque[Event] = deque()
        self._by_id: dict[str, Event] = {}

    def add(
        self,
        event_type: str,
        data_object: Callable[[], Json],
        cause: Cause = Cause(),  # noqa: B008 - frozen, so sharing it is safe
        previous_attributes: Json | None = None,
    ) -> None:
        """Write down what has just happened; `data_object` gives its object as it is now, whenever called."""
        self._last_seq += 1
        now = int(self._clock.now())
        event = Event(
            new_id("evt"), self._last_seq, now, self._livemode, event_type, data_object, previous_attributes, cause
        )
        self._oldest_first.append(event)
        self._by_id[event.id] = event
        if len(self._oldest_first) > KEPT_EVENTS:
            self._forget_oldest()
        self._announce(event)

    def kept(self) -> tuple[deque[Event], dict[str, Event]]:
        """Give the events not older than 30 days, oldest first, and by id."""
        since = self._clock.now() - KEPT_SECONDS
        while self._oldest_first and self._oldest_first[0].created < since:
            self._forget_oldest()
        return self._oldest_first, self._by_id

    def _forget_oldest(self) -> None:
        del self._by_id[self._oldest_first.popleft().id]
