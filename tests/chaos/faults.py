"""What can go wrong in a seed: with runners, the database, the line to it, and Stripe."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.times import Times

Rule = dict[str, Any]

OURS = "^(reversal|transfer):"
"""How the idempotency keys of the product begin: what else calls Stripe is left alone."""

_POSTS: Rule = {"method": "POST", "idempotency_key": OURS}
_LOOK_UPS: Rule = {"method": "GET", "path": "^/v1/transfers"}

_STATEMENTS = (
    "claim_due_reversals",
    "record_reversal_outcomes",
    "claim_due_transfers",
    "record_transfer_outcomes",
    "request_reversal",
    "withdraw_reversal_request",
    "ingest_stripe_event",
    "record_completed_transfer",
    "create_transfer",
)
_MOMENTS = ("unsent", "mid-answer", "committed", "committed")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong, or right again, at a time in seconds from the start: see `tests.chaos.driver`."""

    at: float
    what: str
    how: dict[str, Any] = field(default_factory=dict)


def usual_latency(rng: random.Random, times: Times) -> list[Rule]:
    """Stripe takes its time on some requests, so that there is something in flight when it comes to that."""
    return [
        {
            "action": "delay",
            "when": when,
            "seconds": round(rng.uniform(0.05, 0.9) * times.call_deadline, 3),
            "times": None,
            "probability": 0.15,
            "seed": rng.randrange(1000),
            "match": _POSTS,
        }
        for when in ("before", "after")
    ]


def draw_trouble(rng: random.Random, times: Times) -> Rule:
    """Draw what befalls the first request for a transfer: nobody knows for a while what became of it."""
    late = round(rng.uniform(0.3, 1.0) * times.late, 3)
    return rng.choice(
        (
            {"action": "execute_late", "seconds": late},
            {"action": "execute_late", "seconds": late},
            {"action": "hold", "name": "trouble", "seconds": late, "when": "before"},
            {"action": "hold", "name": "trouble", "seconds": late, "when": "after"},
            {"action": "error_after"},
            {"action": "drop_after"},
            {"action": "drop_before"},
        )
    )


def draw_faults(
    rng: random.Random, times: Times, seconds: float, runners: int, *, small: bool, by_events: bool
) -> list[Fault]:
    """Draw what goes wrong in so many seconds: one of each kind at least, in a small seed one of a few kinds."""
    draw = _Faults(rng, times, seconds, runners)
    if small:
        kinds: list[Callable[[float], None]] = [draw.crash, draw.kill, draw.pause, draw.cut, draw.misbehave]
    else:
        kinds = [draw.crash, draw.kill, draw.pause, draw.cut, draw.outage, draw.revocation, draw.storm, draw.misbehave]
    if by_events:
        kinds.append(draw.kill_webhook)
    for kind in kinds:
        kind(draw.moment())
    others = [draw.kill, draw.kill, draw.pause, draw.pause, draw.end]
    others += [draw.cut, draw.cut_everything, draw.outage, draw.revocation, draw.storm]
    others += [draw.kill_webhook] * 3 * by_events
    for _ in range(0 if small else int(1.3 * seconds)):
        rng.choice(others)(draw.moment())
    for _ in range(int(seconds / 5)):
        draw.crash(draw.moment())
    for _ in range(int(seconds * 2)):
        draw.misbehave(draw.moment())
    return draw.faults


class _Faults:
    """Draws faults one by one."""

    def __init__(self, rng: random.Random, times: Times, seconds: float, runners: int) -> None:
        self._rng = rng
        self._times = times
        self._seconds = seconds
        self._runners = runners
        self.faults: list[Fault] = []

    def moment(self) -> float:
        """Some time, not before there is something to disturb."""
        return round(self._rng.uniform(0.3, self._seconds), 3)

    def _add(self, at: float, what: str, **how: Any) -> None:
        self.faults.append(Fault(at, what, how))

    def _slot(self) -> int:
        return self._rng.randrange(self._runners)

    def _keep_calls_under_way(self, at: float) -> None:
        """Have Stripe hold what comes in before that time, so that there is something to be interrupted."""
        if self._rng.random() < 0.7:
            rule: Rule = {"action": "hold", "name": "interrupted", "seconds": self._times.late}
            rule |= {"when": self._rng.choice(("before", "after")), "times": self._rng.randint(1, 2 * self._runners)}
            self._add(max(0.0, at - 0.3), "misbehave", **rule, match=_POSTS)

    def crash(self, at: float) -> None:
        """The postmaster gets SIGQUIT, as from `pg_ctl stop -m immediate`, and is started again."""
        self._keep_calls_under_way(at)
        self._add(at, "crash_database")

    def kill(self, at: float) -> None:
        """Kill -9; it is started again, under its name or another."""
        self._keep_calls_under_way(at)
        self._add(at, "kill_runner", runner=self._slot(), new_name=self._rng.random() < 0.5)

    def end(self, at: float) -> None:
        """SIGTERM, as at a deploy."""
        self._add(at, "end_runner", runner=self._slot(), new_name=self._rng.random() < 0.5)

    def kill_webhook(self, at: float) -> None:
        """Kill -9, or now and then SIGTERM; it is started again."""
        self._add(at, "kill_webhook", at_once=self._rng.random() < 0.7)

    def pause(self, at: float) -> None:
        """SIGSTOP, and SIGCONT when its leases have lapsed."""
        self._keep_calls_under_way(at)
        seconds = round(self._rng.uniform(1.1 * self._times.lease, self._times.pause), 3)
        self._add(at, "pause_runner", runner=self._slot(), seconds=seconds)

    def cut(self, at: float) -> None:
        """The connection of one statement breaks."""
        self._add(at, "cut", statement=self._rng.choice(_STATEMENTS), moment=self._rng.choice(_MOMENTS))

    def cut_everything(self, at: float) -> None:
        """Every connection to the database breaks."""
        self._add(at, "cut_everything")

    def outage(self, at: float) -> None:
        """The database cannot be reached for a while."""
        self._keep_calls_under_way(at)
        self._add(at, "take_line_down")
        self._add(at + self._rng.uniform(0.1, 0.6 * self._times.lease), "bring_line_up")

    def revocation(self, at: float) -> None:
        """The API key is revoked, and restored."""
        self._add(at, "revoke_key")
        self._add(at + self._rng.uniform(0.2, 0.8), "restore_key")

    def storm(self, at: float) -> None:
        """Stripe answers 429 to most requests, by script or because there really are too many."""
        if self._rng.random() < 0.3:
            self._add(at, "limit_rate", requests_per_second=self._rng.choice((5, 10, 20)))
            self._add(at + self._rng.uniform(0.3, 1.0), "lift_rate_limit")
        else:
            code = self._rng.choice(("rate_limit", "lock_timeout"))
            rule = {"action": "error", "status": 429, "code": code, "message": "Too many.", "probability": 0.8}
            self._add(at, "misbehave", **self._rule(rule, 30), match=_POSTS if self._rng.random() < 0.7 else _LOOK_UPS)

    def misbehave(self, at: float) -> None:
        """Stripe does one of the things that Stripe, or the way to it, does."""
        rng, late = self._rng, self._times.late
        beyond = round(rng.uniform(1.05 * self._times.call_deadline, late), 3)
        if rng.random() < 0.2:
            rule: Rule = rng.choice(
                (
                    {"action": "error", "status": 500, "type": "api_error"},
                    {"action": "drop_before"},
                    {"action": "truncated"},
                    {"action": "delay", "seconds": beyond},
                    {"action": "hang_body", "seconds": late},
                )
            )
            self._add(at, "misbehave", **self._rule(rule, 6), match=_LOOK_UPS)
            return
        when = rng.choice(("before", "after"))
        rule = rng.choice(
            (
                {"action": "error", "status": 500, "type": "api_error"},
                {"action": "error", "status": 500, "type": "api_error", "stored": True},
                {"action": "error", "status": 409, "code": "idempotency_key_in_use", "message": "In use."},
                {"action": "error", "status": 400, "stored": True, "message": "Not now.", "probability": 0.5},
                {"action": "error_after"},
                {"action": "error_after"},
                {"action": "drop_before"},
                {"action": "drop_after"},
                {"action": "drop_after"},
                {"action": "execute_late", "seconds": round(rng.uniform(0.05, late), 3)},
                {"action": "execute_late", "seconds": round(rng.uniform(0.05, late), 3)},
                {"action": "truncated"},
                {"action": "hang_body", "seconds": late},
                {"action": "garbage", "status": rng.choice((200, 502)), "body": rng.choice(("[1,2]", "<html>"))},
                {"action": "delay", "seconds": beyond, "when": when},
                {"action": "hold", "seconds": late, "when": when, "name": "held"},
            )
        )
        # What Stripe has answered with 200 it knows: a 404 after that is the key's fault, and all calls are paused.
        match = {**_POSTS, "path": "^(?!.*/tr_1nowhere)"} if rule["action"] == "garbage" else _POSTS
        self._add(at, "misbehave", **self._rule(rule, 4), match=match)
        if rule["action"] in ("hold", "execute_late") and rng.random() < 0.4:
            self._add(at + rng.uniform(0.1, late), "let_go")

    def _rule(self, rule: Rule, most: int) -> Rule:
        return {"times": self._rng.randint(1, most), "seed": self._rng.randrange(1000), **rule}
