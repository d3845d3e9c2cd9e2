"""The simulator's refunds: by Stripe's API and by command, from their birth to an end that may not be the last."""

from typing import Any

import pytest

from runner.sandbox.simulator import ControlRefused, SimulatorClient, StripeAnswer

OUTSIDE, PENDING = "outside", "acct_1SandboxPlatform/pending"
REFUND_FIELDS = {
    "id",
    "object",
    "amount",
    "balance_transaction",
    "charge",
    "created",
    "currency",
    "customer",
    "customer_account",
    "destination_details",
    "metadata",
    "payment_intent",
    "payment_method",
    "reason",
    "receipt_number",
    "source_transfer_reversal",
    "status",
    "transfer_reversal",
}


@pytest.fixture
def charge(simulator: SimulatorClient) -> str:
    """A charge of 1000 usd."""
    return simulator.create_charge(1000, "usd", transfer_group="order-17")


def refund(simulator: SimulatorClient, key: str | None = None, /, **params: object) -> StripeAnswer:
    """Refund by the API, as an app does."""
    return simulator.stripe("POST", "/v1/refunds", params, idempotency_key=key)


def state(simulator: SimulatorClient, charge: str) -> tuple[int, bool, int]:
    """What was refunded of a charge by its own account, whether all was, and what is left in its purse."""
    body = simulator.stripe("GET", f"/v1/charges/{charge}").json()
    return body["amount_refunded"], body["refunded"], simulator.balances()[PENDING]["usd"]


def test_a_refund_has_every_field_and_no_transfer_group(simulator: SimulatorClient, charge: str) -> None:
    made = refund(simulator, charge=charge, amount=300, reason="duplicate", **{"metadata[by]": "support"}).json()

    assert set(made) == REFUND_FIELDS
    constant = {"object": "refund", "amount": 300, "charge": charge, "currency": "usd", "status": "succeeded"}
    assert {name: made[name] for name in constant} == constant
    assert (made["reason"], made["metadata"]) == ("duplicate", {"by": "support"})
    assert simulator.stripe("GET", f"/v1/refunds/{made['id']}").json() == made
    found = simulator.stripe("GET", f"/v1/charges/{charge}").json()
    assert (made["payment_intent"], made["id"][:4]) == (found["payment_intent"], "re_1")
    assert [each["id"] for each in found["refunds"]["data"]] == [made["id"]]


def test_partial_refunds_add_up_and_the_last_takes_what_is_left(simulator: SimulatorClient, charge: str) -> None:
    intent = simulator.stripe("GET", f"/v1/charges/{charge}").json()["payment_intent"]

    refund(simulator, charge=charge, amount=300)
    assert state(simulator, charge) == (300, False, 700)
    refund(simulator, payment_intent=intent, amount=1)
    assert state(simulator, charge) == (301, False, 699)
    assert refund(simulator, charge=charge).json()["amount"] == 699
    assert state(simulator, charge) == (1000, True, 0)
    entries = simulator.ledger(kind="refund")
    assert [(each.debit, each.credit, each.moved) for each in entries] == [
        (PENDING, OUTSIDE, 300),
        (PENDING, OUTSIDE, 1),
        (PENDING, OUTSIDE, 699),
    ]


def test_a_refund_touches_no_transfer(simulator: SimulatorClient, charge: str) -> None:
    simulator.create_account("acct_1Ann")
    params = {"amount": 900, "currency": "usd", "destination": "acct_1Ann", "source_transaction": charge}
    transfer = simulator.stripe("POST", "/v1/transfers", params).json()

    simulator.refund(charge)

    assert simulator.stripe("GET", f"/v1/transfers/{transfer['id']}").json() == transfer
    assert simulator.balances() == {OUTSIDE: {"usd": 0}, PENDING: {"usd": -900}, "acct_1Ann": {"usd": 900}}


@pytest.mark.parametrize(
    ("before", "params", "status", "code", "param"),
    [
        (1000, {}, 400, "charge_already_refunded", None),
        (400, {"amount": 601}, 400, None, "amount"),
        (0, {"amount": 0}, 400, "parameter_invalid_integer", "amount"),
        (0, {"reason": "boredom"}, 400, None, "reason"),
        (0, {"charge": "ch_1Nothing"}, 400, "resource_missing", "charge"),
        (0, {"payment_intent": "pi_1Another"}, 400, "resource_missing", "charge"),
        (0, {"charge": "", "payment_intent": "pi_1Nothing"}, 400, "resource_missing", "payment_intent"),
        (0, {"charge": ""}, 400, "parameter_missing", "charge"),
        (0, {"reverse_transfer": "true"}, 400, "parameter_unknown", "reverse_transfer"),
    ],
)
def test_a_refund_that_cannot_be_moves_nothing(
    simulator: SimulatorClient,
    charge: str,
    before: int,
    params: dict[str, object],
    status: int,
    code: str | None,
    param: str | None,
) -> None:
    if before:
        simulator.refund(charge, before)

    refused = refund(simulator, **{"charge": charge, **params})

    assert (refused.status, refused.error.get("code"), refused.error.get("param")) == (status, code, param)
    assert state(simulator, charge) == (before, before == 1000, 1000 - before)


def test_a_refund_is_made_once_under_its_key_and_goes_wrong_like_any_call(
    simulator: SimulatorClient, charge: str
) -> None:
    simulator.add_fault("error_after", match={"path": "^/v1/refunds$"})

    answers = [refund(simulator, "key-1", charge=charge, amount=100) for _ in range(2)]

    assert [(each.status, each.replayed) for each in answers] == [(500, False), (500, True)]
    assert state(simulator, charge) == (100, False, 900)
    assert refund(simulator, "key-1", charge=charge, amount=101).error["type"] == "idempotency_error"


def test_a_pending_refund_counts_and_its_money_is_gone_until_it_fails(simulator: SimulatorClient, charge: str) -> None:
    pending = simulator.refund(charge, 400, status="pending")
    assert state(simulator, charge) == (400, False, 600)

    simulator.settle_refund(pending, "succeeded")
    assert state(simulator, charge) == (400, False, 600)
    simulator.settle_refund(pending, "failed", failure_reason="lost_or_stolen_card")
    assert state(simulator, charge) == (0, False, 1000)

    body = simulator.stripe("GET", f"/v1/refunds/{pending}").json()
    assert (body["status"], body["failure_reason"]) == ("failed", "lost_or_stolen_card")
    assert body["failure_balance_transaction"].startswith("txn_1")
    entries = [(e.kind, e.debit, e.amount, e.moved, e.status) for e in simulator.ledger() if e.refund == pending]
    assert entries == [
        ("refund", PENDING, 400, 400, "pending"),
        ("refund_status", PENDING, 400, 0, "succeeded"),
        ("refund_status", OUTSIDE, 400, 400, "failed"),
    ]
    # What failed can be refunded anew.
    assert refund(simulator, charge=charge).json()["amount"] == 1000


# From where, and to where it can be settled; everything else is refused.
SETTLED = {
    "pending": {"requires_action", "succeeded", "failed", "canceled"},
    "requires_action": {"pending", "succeeded", "failed", "canceled"},
    "succeeded": {"failed"},
    "failed": set(),
    "canceled": set(),
}


def test_a_refund_becomes_what_it_can_and_nothing_else(simulator: SimulatorClient) -> None:
    born: tuple[Any, ...] = ("pending", "requires_action", "succeeded")
    allowed: dict[str, set[str]] = {status: set() for status in SETTLED}
    for start in SETTLED:
        for end in SETTLED:
            charge = simulator.create_charge(10, "usd")
            made = simulator.refund(charge, status=start if start in born else "pending")  # type: ignore[arg-type]
            if start not in born:
                simulator.settle_refund(made, start)  # type: ignore[arg-type]
            try:
                simulator.settle_refund(made, end)  # type: ignore[arg-type]
                allowed[start].add(end)
            except ControlRefused:
                body = simulator.stripe("GET", f"/v1/refunds/{made}").json()
                assert body["status"] == start
    assert allowed == SETTLED


def test_what_is_not_there_cannot_be_refunded_or_settled(simulator: SimulatorClient, charge: str) -> None:
    with pytest.raises(ControlRefused, match="ch_1Nothing"):
        simulator.refund("ch_1Nothing")
    with pytest.raises(ControlRefused, match="re_1Nothing"):
        simulator.settle_refund("re_1Nothing", "failed")
    with pytest.raises(ControlRefused, match="greater than unrefunded"):
        simulator.refund(charge, 1001)
    assert simulator.stripe("GET", "/v1/refunds/re_1Nothing").status == 404
