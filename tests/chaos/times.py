"""The times of a seed: those of production, shortened through what production itself can be set by."""

from dataclasses import dataclass

from tests.support.databases import Database

# As retry_policy has them, but for the shortened ones.
_LONGEST_DELAYS = {
    "configuration": 0.4,
    "insufficient_balance": 0.5,
    "throttled": 0.3,
    "transient": 0.4,
    "accepted": 0.5,
    "unknown": 0.5,
}
_FIRST_DELAY = 0.02
_JITTER = 0.5
# For what is no waiting of the policy's: processes that share a few cores with other seeds.
_MARGIN = 15.0


@dataclass(frozen=True, slots=True)
class Times:
    """Everything in seconds and in proportion to the lease. What the product assumes of Stripe holds here as well.

    A request acts within `quiet` of the runner's last check: a paused runner may write it when it wakes up, and Stripe
    may execute it late, and both together take less. Stripe forgets no key that may still be on its way: one is sent
    by a claim that finds it younger than `key_max_age`, up to a lease later, and then travels.
    """

    lease: float

    @property
    def call_deadline(self) -> float:
        """The longest a runner waits for an answer."""
        return round(0.45 * self.lease, 3)

    @property
    def late(self) -> float:
        """The longest that Stripe holds a request, or keeps an answer back: longer than a call may take."""
        return round(0.6 * self.lease, 3)

    @property
    def pause(self) -> float:
        """The longest a runner stands still: longer than its leases live."""
        return round(1.5 * self.lease, 3)

    @property
    def quiet(self) -> float:
        """How long nothing can arrive any more after a request may have left."""
        return round(self.late + self.pause + 0.3 * self.lease, 3)

    @property
    def key_max_age(self) -> float:
        """How old a key may get that is sent."""
        return round(3.5 * self.lease, 3)

    @property
    def keys_kept(self) -> float:
        """How long Stripe remembers a key, at least."""
        return round(self.key_max_age + self.lease + self.quiet, 3)

    @property
    def goal(self) -> float:
        """Once nothing goes wrong any more: the lease and twice the longest delay that may be due."""
        longest = max(_LONGEST_DELAYS.values()) * (1 + _JITTER)
        return round(self.lease + 2 * max(longest, self.quiet, self.key_max_age), 3)

    @property
    def patience(self) -> float:
        """How long every row is waited for before it counts as not done."""
        return self.goal + _MARGIN

    def apply(self, db: Database) -> None:
        """Write them into retry_policy."""
        for verdict, longest in _LONGEST_DELAYS.items():
            db.execute(
                """
                update marketplace.retry_policy set
                  base_delay = make_interval(secs => %s), factor = 2,
                  max_delay = make_interval(secs => %s), jitter = %s,
                  slow_delay = case when slow_after is not null then make_interval(secs => %s) end
                where verdict = %s
                """,
                [_FIRST_DELAY, longest, _JITTER, longest, verdict],
            )
        db.execute(
            """
            update marketplace.retry_policy
            set quiet = make_interval(secs => %s), key_max_age = make_interval(secs => %s) where verdict = 'unknown'
            """,
            [self.quiet, self.key_max_age],
        )
