"""What happens in a seed, drawn from `random.Random(seed)` and nothing else."""

import random
from dataclasses import dataclass, field
from typing import Any

LEASE = 1.0
DEADLINE = 0.5
LATE = 1.0  # the longest that Stripe holds a request
QUIET = 3.5  # longer than a lease and LATE together
KEY_MAX_AGE = 8.0
KEYS_KEPT = KEY_MAX_AGE + LEASE + QUIET
_OURS = {"method": "POST", "idempotency_key": "^(reversal|transfer):"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A function that the app calls, and with what. Called again it is the same."""

    function: str
    order: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Plan:
    """`heard` by the standby, `lost` with the primary, and `after` the failover; in the order of the app's calls."""

    seed: int
    paid: dict[str, int]
    created: dict[str, int]
    wanted: dict[str, int]
    """What each seller is to have in the end, by order."""
    heard: list[Asked] = field(default_factory=list)
    lost: list[Asked] = field(default_factory=list)
    after: list[Asked] = field(default_factory=list)
    troubles: list[dict[str, Any]] = field(default_factory=list)
    kills_runners: bool = False
    away_seconds: float = 0.0


def make_plan(seed: int, orders: int) -> Plan:
    """Draw everything."""
    rng = random.Random(seed)
    paid: dict[str, int] = {}
    created: dict[str, int] = {}
    wanted: dict[str, int] = {}
    calls: list[list[Asked]] = []
    for number in range(orders):
        name, amount = f"{seed}x{number}", rng.randrange(1000, 5000)
        is_paid = rng.random() < 0.5
        (paid if is_paid else created)[name] = amount
        asked, left = _of_one_order(rng, name, amount, is_paid=is_paid)
        wanted[name] = left
        calls.append(asked)
    plan = Plan(seed, paid, created, wanted)
    # Each order's calls stay in their order, and are spread over the three times.
    for asked in calls:
        cuts = sorted(rng.choices((0, 1, 2), weights=(3, 4, 2), k=len(asked)))
        for each, when in zip(asked, cuts, strict=True):
            (plan.heard, plan.lost, plan.after)[when].append(each)
    plan.troubles = [_trouble(rng) for _ in range(orders)]
    plan.kills_runners = rng.random() < 0.5
    plan.away_seconds = rng.choice((0.0, 0.0, 5.0, KEYS_KEPT + 1.0)) if plan.kills_runners else 0.0
    return plan


def _of_one_order(rng: random.Random, name: str, amount: int, *, is_paid: bool) -> tuple[list[Asked], int]:
    order = f"order-{name}"
    money = {
        "p_transfer_key": f"key-{name}",
        "p_order_id": order,
        "p_seller_id": f"seller-{name}",
        "p_destination_account": f"acct_{name}",
        "p_amount": amount,
        "p_currency": "usd",
    }
    asked = [Asked("record_completed_transfer" if is_paid else "create_transfer", name, money)]
    left = amount
    parts = []
    for number in range(rng.choice((0, 1, 1, 2, 3))):
        part = rng.randrange(50, amount // 4)
        parts.append((f"re_{name}n{number}", part))
        left -= part
    if rng.random() < 0.25:
        parts.append((f"re_{name}whole", 0))
        left = 0
    for request, part in parts:
        refund = {"p_order_id": order, "p_reversal_request_id": request}
        asked.append(Asked("request_reversal", name, refund | ({"p_amount": part} if part else {})))
    if parts and left and rng.random() < 0.3:
        request, part = rng.choice(parts)
        asked.append(
            Asked("withdraw_reversal_request", name, {"p_reversal_request_id": request, "p_reason": "it failed"})
        )
        left += part
    return asked, left


def _trouble(rng: random.Random) -> dict[str, Any]:
    """What befalls a request somewhere on the way."""
    late = round(rng.uniform(0.2, LATE), 3)
    rule = rng.choice(
        (
            {"action": "execute_late", "seconds": late},
            {"action": "hold", "name": "trouble", "seconds": late, "when": "before"},
            {"action": "hold", "name": "trouble", "seconds": late, "when": "after"},
            {"action": "delay", "seconds": round(rng.uniform(0.05, DEADLINE), 3), "when": "after"},
            {"action": "error_after"},
            {"action": "drop_after"},
            {"action": "drop_before"},
        )
    )
    return {**rule, "match": _OURS, "times": 2, "probability": 0.4, "seed": rng.randrange(1000)}
