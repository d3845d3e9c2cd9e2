"""The simulator's disputes: opened, funds taken and given back, won and lost."""

from typing import Any, Literal

import pytest

from runner.sandbox.simulator import ControlRefused, SimulatorClient

OUTSIDE, PENDING = "outside", "acct_1SandboxPlatform/pending"
DISPUTE_FIELDS = {
    "id",
    "object",
    "amount",
    "balance_transactions",
    "charge",
    "created",
    "currency",
    "enhanced_eligibility_types",
    "evidence",
    "evidence_details",
    "is_charge_refundable",
    "livemode",
    "metadata",
    "payment_intent",
    "payment_method_details",
    "reason",
    "status",
}


@pytest.fixture
def charge(simulator: SimulatorClient) -> str:
    """A charge of 1000 usd."""
    return simulator.create_charge(1000, "usd")


def dispute_of(simulator: SimulatorClient, dispute: str) -> dict[str, Any]:
    body: dict[str, Any] = simulator.stripe("GET", f"/v1/disputes/{dispute}").json()
    return body


def purse(simulator: SimulatorClient) -> int:
    return simulator.balances()[PENDING]["usd"]


def test_a_dispute_has_every_field_and_shows_on_its_charge(simulator: SimulatorClient, charge: str) -> None:
    dispute = simulator.open_dispute(charge, 700, reason="product_not_received")

    body = dispute_of(simulator, dispute)
    assert set(body) == DISPUTE_FIELDS
    constant = {"object": "dispute", "amount": 700, "charge": charge, "currency": "usd", "livemode": False}
    assert {name: body[name] for name in constant} == constant
    assert (body["id"][:4], body["status"], body["reason"]) == ("dp_1", "needs_response", "product_not_received")
    assert (body["is_charge_refundable"], body["balance_transactions"]) == (False, [])
    found = simulator.stripe("GET", f"/v1/charges/{charge}").json()
    assert (found["disputed"], found["payment_intent"]) == (True, body["payment_intent"])
    assert purse(simulator) == 1000  # nobody has taken anything yet


def test_funds_go_and_come_back_once_each_whoever_wins(simulator: SimulatorClient, charge: str) -> None:
    dispute = simulator.open_dispute(charge, 700)

    simulator.withdraw_funds(dispute)
    assert purse(simulator) == 300
    simulator.close_dispute(dispute, "won")
    assert purse(simulator) == 300
    simulator.reinstate_funds(dispute)
    assert purse(simulator) == 1000

    body = dispute_of(simulator, dispute)
    assert [each["amount"] for each in body["balance_transactions"]] == [-700, 700]
    assert (body["status"], body["is_charge_refundable"]) == ("won", True)
    assert [(e.kind, e.debit, e.credit, e.moved) for e in simulator.ledger() if e.dispute == dispute] == [
        ("dispute", PENDING, OUTSIDE, 700),
        ("reinstatement", OUTSIDE, PENDING, 700),
    ]
    for again in (simulator.withdraw_funds, simulator.reinstate_funds):
        with pytest.raises(ControlRefused, match=dispute):
            again(dispute)
    assert purse(simulator) == 1000


def test_of_a_dispute_that_is_lost_a_part_may_come_back(simulator: SimulatorClient, charge: str) -> None:
    dispute = simulator.open_dispute(charge, 700)
    simulator.withdraw_funds(dispute)
    simulator.close_dispute(dispute, "lost")
    with pytest.raises(ControlRefused, match="not so much"):
        simulator.reinstate_funds(dispute, 701)
    simulator.reinstate_funds(dispute, 400)

    body = dispute_of(simulator, dispute)
    assert [each["amount"] for each in body["balance_transactions"]] == [-700, 400]
    assert (body["status"], purse(simulator)) == ("lost", 700)


def test_a_lost_disputes_charge_is_not_refunded_a_won_ones_is(simulator: SimulatorClient, charge: str) -> None:
    ends: tuple[tuple[Literal["won", "lost"], int], ...] = (("won", 200), ("lost", 400))
    for end, status in ends:
        disputed = simulator.create_charge(500, "usd")
        dispute = simulator.open_dispute(disputed)
        open_now = simulator.stripe("POST", "/v1/refunds", {"charge": disputed})
        assert (open_now.status, open_now.error["code"]) == (400, "charge_disputed")
        simulator.close_dispute(dispute, end)
        assert simulator.stripe("POST", "/v1/refunds", {"charge": disputed}).status == status


def test_an_inquiry_takes_no_money_and_lets_the_charge_be_refunded(simulator: SimulatorClient, charge: str) -> None:
    dispute = simulator.open_dispute(charge, inquiry=True)
    with pytest.raises(ControlRefused, match="cannot be withdrawn"):
        simulator.withdraw_funds(dispute)
    with pytest.raises(ControlRefused, match="cannot become won"):
        simulator.close_dispute(dispute, "won")

    assert dispute_of(simulator, dispute)["status"] == "warning_needs_response"
    assert simulator.stripe("POST", "/v1/refunds", {"charge": charge, "amount": 1}).status == 200
    simulator.close_dispute(dispute, "warning_closed")
    assert (dispute_of(simulator, dispute)["status"], purse(simulator)) == ("warning_closed", 999)


def test_what_cannot_be_disputed_is_not(simulator: SimulatorClient, charge: str) -> None:
    simulator.refund(charge, 400)
    assert dispute_of(simulator, simulator.open_dispute(charge))["amount"] == 600
    with pytest.raises(ControlRefused, match="1001"):
        simulator.open_dispute(charge, 1001)
    with pytest.raises(ControlRefused, match="dp_1Nothing"):
        simulator.withdraw_funds("dp_1Nothing")
    dispute = simulator.open_dispute(charge, 1)
    with pytest.raises(ControlRefused, match="not withdrawn"):
        simulator.reinstate_funds(dispute)
    simulator.close_dispute(dispute, "lost")
    with pytest.raises(ControlRefused, match="is lost"):
        simulator.close_dispute(dispute, "won")
    assert simulator.ledger(kind="dispute") == []
