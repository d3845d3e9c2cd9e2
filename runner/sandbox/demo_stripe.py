"""The demo's dealings with the simulator of Stripe: money for the sellers, and the trouble that is to come."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from runner.sandbox.demo_orders import Order, Payout, Story, payouts_of
from runner.sandbox.simulator import SimulatorClient

HELD = "until a runner is killed"

_USUAL_SECONDS = 0.03
_REVERSALS = {"method": "POST", "path": "/reversals$"}

# What the simulator does to the calls for a transfer with such a story, see runner.sandbox.simulator.faults.
_FAULTS: dict[Story, dict[str, Any]] = {
    Story.SERVER_ERROR: {"action": "error_after"},
    Story.LOST_ANSWER: {"action": "drop_after"},
    Story.CUT_ANSWER: {"action": "truncated"},
    Story.HANGING_ANSWER: {"action": "hang_body"},
    Story.LOST_REQUEST: {"action": "drop_before"},
    Story.SLOW: {"action": "delay", "seconds": 2.0},
    Story.RUNNER_KILLED: {"action": "hold", "name": HELD, "when": "after", "seconds": 10},
    Story.RATE_LIMITED: {
        "action": "error",
        "times": 2,
        "status": 429,
        "code": "rate_limit",
        "message": "Request rate limit exceeded.",
        "headers": {"Stripe-Rate-Limited-Reason": "endpoint-rate"},
    },
    Story.LOCKED: {
        "action": "error",
        "status": 429,
        "code": "lock_timeout",
        "message": "This object cannot be accessed right now because another API request is accessing it.",
    },
    Story.REFUSED_TWICE: {
        "action": "error",
        "times": 2,
        "status": 400,
        "stored": True,
        "message": "This transfer cannot be reversed right now.",
    },
    Story.ALWAYS_REFUSED: {
        "action": "error",
        "times": None,
        "status": 400,
        "stored": True,
        "message": "This transfer cannot be reversed.",
    },
}


class StripeRefused(Exception):
    """The simulator refused what the demo asked of it; the text is its own."""


def open_accounts(simulator: SimulatorClient, orders: list[Order]) -> None:
    """Make the sellers' connected accounts, and bring in the money of the orders paid from the platform's balance."""
    for account in sorted({payout.account for payout in payouts_of(orders)}):
        simulator.create_account(account)
    needed: Counter[str] = Counter()
    for order in orders:
        if not order.from_charge:
            needed[order.currency] += sum(payout.amount for payout in order.payouts)
    for currency, amount in sorted(needed.items()):
        simulator.fund(amount, currency)


def charge_buyer(simulator: SimulatorClient, order: Order) -> str | None:
    """Charge the buyer; gives the charge (`ch_…`) if the order's transfers are to name it as their source."""
    if not order.from_charge:
        return None
    return simulator.create_charge(order.paid_by_buyer, order.currency, transfer_group=order.id)


def pay_seller(simulator: SimulatorClient, order: Order, payout: Payout, charge: str | None) -> str:
    """Make the transfer as an app does, by POST /v1/transfers; gives its id (`tr_…`)."""
    # A transfer from a charge has the charge's group; Stripe refuses one beside it.
    origin = {"source_transaction": charge} if charge is not None else {"transfer_group": order.id}
    params = {"amount": payout.amount, "currency": payout.currency, "destination": payout.account, **origin}
    return _post(simulator, "/v1/transfers", params, idempotency_key=f"pay {payout.key}")


def prepare_trouble(simulator: SimulatorClient, transfers: Mapping[Payout, str]) -> None:
    """Arrange what is to go wrong with these transfers (their ids by payout)."""
    rules: list[dict[str, Any]] = []
    for payout, transfer in transfers.items():
        if payout.story in _FAULTS:
            rules.append({**_FAULTS[payout.story], "match": {**_REVERSALS, "transfer": transfer}})
        elif payout.story is Story.REVERSED_BY_HAND:
            _post(simulator, f"/v1/transfers/{transfer}/reversals", {"amount": payout.amount})
        elif payout.story is Story.TOO_POOR:
            simulator.fund(-payout.amount, payout.currency, account=payout.account)
    rules.append({"action": "delay", "seconds": _USUAL_SECONDS, "times": None, "match": _REVERSALS})
    simulator.add_faults(rules)


def earn_again(simulator: SimulatorClient, payouts: Sequence[Payout]) -> None:
    """Bring these sellers' balances back to where they cover what they owe."""
    for payout in payouts:
        simulator.fund(payout.amount, payout.currency, account=payout.account)


def calls_per_transfer(simulator: SimulatorClient) -> Counter[str]:
    """How many reversal calls under an idempotency key reached the simulator, by transfer id."""
    calls: Counter[str] = Counter()
    for request in simulator.requests(method="POST", path="/reversals"):
        if request.idempotency_key is not None:
            calls[request.path.split("/")[3]] += 1
    return calls


def _post(
    simulator: SimulatorClient, path: str, params: Mapping[str, object], idempotency_key: str | None = None
) -> str:
    answer = simulator.stripe("POST", path, params, idempotency_key=idempotency_key)
    if answer.status != 200:
        raise StripeRefused(str(answer.error["message"]))
    return str(answer.json()["id"])
