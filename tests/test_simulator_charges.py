"""The simulator's charges: what buyers paid, where the money lies, and what transfers may draw on it."""

from typing import Any

import pytest

from runner.sandbox.simulator import LIVE_KEY, SimulatorClient, StripeAnswer

ANN, BEN = "acct_1Ann", "acct_1Ben"
PLATFORM, PENDING = "acct_1SandboxPlatform", "acct_1SandboxPlatform/pending"


@pytest.fixture
def stripe(simulator: SimulatorClient) -> SimulatorClient:
    """A simulator with two sellers and no money."""
    for seller in (ANN, BEN):
        simulator.create_account(seller)
    return simulator


def charge_of(stripe: SimulatorClient, charge: str) -> dict[str, Any]:
    body: dict[str, Any] = stripe.stripe("GET", f"/v1/charges/{charge}").json()
    return body


def send(stripe: SimulatorClient, amount: int, destination: str = ANN, **params: object) -> StripeAnswer:
    given = {"amount": amount, "currency": "usd", "destination": destination, **params}
    return stripe.stripe("POST", "/v1/transfers", given)


def test_a_new_charge_is_neither_refunded_nor_disputed(stripe: SimulatorClient) -> None:
    charge = stripe.create_charge(1099, "usd", transfer_group="order-17", metadata={"order": "17"})

    body = charge_of(stripe, charge)
    constant = {
        "id": charge,
        "object": "charge",
        "amount": 1099,
        "amount_captured": 1099,
        "amount_refunded": 0,
        "currency": "usd",
        "disputed": False,
        "livemode": False,
        "metadata": {"order": "17"},
        "refunded": False,
        "transfer_group": "order-17",
    }
    assert {name: body[name] for name in constant} == constant
    assert body["payment_intent"].startswith("pi_1")


def test_its_money_is_pending_or_available_at_once(stripe: SimulatorClient) -> None:
    stripe.create_charge(1000, "usd")
    stripe.create_charge(300, "usd", available=True)

    assert stripe.balances() == {"outside": {"usd": -1300}, PENDING: {"usd": 1000}, PLATFORM: {"usd": 300}}
    assert send(stripe, 301).error["code"] == "balance_insufficient"
    assert send(stripe, 300).status == 200


def test_it_pays_several_sellers_up_to_its_amount_and_not_a_cent_more(stripe: SimulatorClient) -> None:
    charge = stripe.create_charge(1000, "usd", transfer_group="order-17")

    first, second = (send(stripe, 500, seller, source_transaction=charge) for seller in (ANN, BEN))
    refused = send(stripe, 1, source_transaction=charge)

    assert [each.json()["transfer_group"] for each in (first, second)] == ["order-17"] * 2
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
    assert refused.error["message"] == (
        "Transfers using this transaction as a source must not exceed the source amount of 1000 usd. "
        "(There is already a transfer using this source, amounting to 1000 usd.)"
    )
    assert stripe.balances() == {"outside": {"usd": -1000}, PENDING: {"usd": 0}, ANN: {"usd": 500}, BEN: {"usd": 500}}


def test_stripe_lets_a_refunded_charge_pay_sellers(stripe: SimulatorClient) -> None:
    charge = stripe.create_charge(1000, "usd")
    stripe.refund(charge)

    assert send(stripe, 900, source_transaction=charge).status == 200
    assert (stripe.balances()[PENDING], stripe.balances()[ANN]) == ({"usd": -900}, {"usd": 900})


def test_the_platforms_balance_is_what_the_test_says(stripe: SimulatorClient) -> None:
    stripe.create_charge(1000, "usd", available=True)

    stripe.set_platform_balance(70, "usd")
    stripe.set_platform_balance(5, "jpy")
    assert stripe.balances()[PLATFORM] == {"usd": 70, "jpy": 5}
    assert send(stripe, 71).error["code"] == "balance_insufficient"
    stripe.set_platform_balance(71, "usd")
    assert send(stripe, 71).status == 200


def test_what_sellers_were_sent_and_not_asked_back_is_told_by_account_and_currency(stripe: SimulatorClient) -> None:
    charge = stripe.create_charge(1000, "usd")
    first = send(stripe, 600, source_transaction=charge).json()["id"]
    yen = stripe.create_transfer(ANN, 50, "jpy")
    stripe.create_transfer(BEN, 7, "usd")
    stripe.create_transfer(BEN, 9, "usd", livemode=True)
    stripe.fund(-100, "usd", account=ANN)  # money she spent is still money she was sent

    (_, pending, failing) = stripe.create_reversals(
        first, [{"amount": 200}, {"amount": 30, "pending": True}, {"amount": 40, "pending": True}]
    )
    stripe.create_reversals(yen, [{"amount": 50}])
    assert stripe.sent_minus_reversed() == {ANN: {"usd": 400, "jpy": 0}, BEN: {"usd": 7}}

    stripe.settle_reversal(pending, "succeeded")
    stripe.settle_reversal(failing, "failed")
    assert stripe.sent_minus_reversed() == {ANN: {"usd": 370, "jpy": 0}, BEN: {"usd": 7}}
    assert stripe.sent_minus_reversed(livemode=True) == {BEN: {"usd": 9}}


def test_a_charge_of_the_other_mode_is_said_to_be_there(stripe: SimulatorClient) -> None:
    live = stripe.create_charge(1000, "usd", livemode=True)

    for answer in (stripe.stripe("GET", f"/v1/charges/{live}"), stripe.stripe("POST", "/v1/refunds", {"charge": live})):
        assert answer.error["code"] == "resource_missing"
        assert "exists in live mode, but a test mode key" in answer.error["message"]
    assert stripe.stripe("GET", f"/v1/charges/{live}", api_key=LIVE_KEY).json()["livemode"] is True
