"""The numbers of retry_policy as they are shipped, and when a row is due by them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

QUIET = timedelta(hours=1)
KEY_MAX_AGE = timedelta(hours=20)


class Window(NamedTuple):
    """When a row is due: a delay has some chance in it."""

    earliest: datetime
    latest: datetime

    @classmethod
    def at(cls, moment: datetime) -> "Window":
        return cls(moment, moment)


@dataclass(frozen=True, slots=True)
class Delays:
    """How long to wait after so many equal verdicts in a row; in seconds."""

    base: float
    longest: float
    jitter: float
    slow_after: int | None = None
    slow: float = 0

    def after(self, now: datetime, streak: int) -> Window:
        if self.slow_after is not None and streak > self.slow_after:
            seconds = self.slow
        else:
            seconds = min(self.longest, self.base * 2 ** (streak - 1))
        return Window(now + timedelta(seconds=seconds), now + timedelta(seconds=seconds * (1 + self.jitter)))


@dataclass(slots=True)
class Policy:
    """The numbers as they are shipped."""

    delays: dict[str, Delays] = field(
        default_factory=lambda: {
            "configuration": Delays(30, 600, 0),
            "insufficient_balance": Delays(3600, 24 * 3600, 0.1),
            "throttled": Delays(1, 60, 0.5),
            "transient": Delays(60, 3600, 0.1),
            "accepted": Delays(600, 6 * 3600, 0.1),
            "unknown": Delays(5, 600, 0.1, slow_after=24, slow=3600),
        }
    )
    retries: int = 5
    patience: timedelta = timedelta(days=45)
