"""The simulator's refusals: status, type, code, param and, where Stripe's wording is known, the wording."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from runner.sandbox.simulator import LIVE_KEY, ControlRefused, SimulatorClient

SELLER = "acct_1Seller"


@dataclass(frozen=True, slots=True)
class Refused:
    """What an error answer must be; a null message is one whose wording Stripe does not publish."""

    status: int
    message: str | None
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"


def reverse(
    simulator: SimulatorClient,
    transfer: str,
    params: Mapping[str, object],
    refused: Refused,
    api_key: str = "sk_test_sandbox",
) -> None:
    """Try a reversal and have it refused."""
    check(simulator, "POST", f"/v1/transfers/{transfer}/reversals", params, refused, api_key)


def check(
    simulator: SimulatorClient,
    method: str,
    path: str,
    params: Mapping[str, object],
    refused: Refused,
    api_key: str | None = "sk_test_sandbox",
) -> None:
    """Make a request and have it refused."""
    answer = simulator.stripe(method, path, params, api_key=api_key)
    error = answer.error
    assert answer.status == refused.status
    assert error["type"] == refused.type
    assert error.get("code") == refused.code
    assert error.get("param") == refused.param
    if refused.message is not None:
        assert error["message"] == refused.message
    assert answer.headers["request-id"].startswith("req_")


def test_a_fully_reversed_transfer_is_not_reversed_again(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    assert simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals").status == 200
    message = f"The transfer {transfer} is already fully reversed."
    reverse(simulator, transfer, {}, Refused(400, message))
    reverse(simulator, transfer, {"amount": 1}, Refused(400, message))
    assert len(simulator.ledger(kind="reversal")) == 1


def test_more_than_the_remainder_is_refused_and_moves_nothing(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    assert simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": 60}).status == 200
    reverse(simulator, transfer, {"amount": 41}, Refused(400, None, param="amount"))
    assert simulator.balances()[SELLER] == {"usd": 40}
    assert simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", {"amount": 40}).status == 200


def test_a_reversal_needs_the_sellers_balance(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    assert simulator.fund(-1, "usd", account=SELLER) == 99
    reverse(simulator, transfer, {}, Refused(400, None, "balance_insufficient"))
    simulator.fund(1, "usd", account=SELLER)
    assert simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals").status == 200


def test_an_unknown_transfer_is_missing(simulator: SimulatorClient) -> None:
    missing = Refused(404, "No such transfer: 'tr_nope'", "resource_missing", "id")
    reverse(simulator, "tr_nope", {}, missing)
    check(simulator, "GET", "/v1/transfers/tr_nope/reversals", {}, missing)
    seen_as = Refused(404, "No such transfer: 'tr_nope'", "resource_missing", "transfer")
    check(simulator, "GET", "/v1/transfers/tr_nope", {}, seen_as)


def test_the_key_of_the_wrong_mode_is_told_so(simulator: SimulatorClient) -> None:
    in_test = simulator.create_transfer(SELLER, 100, "usd")
    in_live = simulator.create_transfer(SELLER, 100, "usd", livemode=True)
    live_exists = (
        f"No such transfer: '{in_live}'; a similar object exists in live mode, "
        "but a test mode key was used to make this request."
    )
    test_exists = (
        f"No such transfer: '{in_test}'; a similar object exists in test mode, "
        "but a live mode key was used to make this request."
    )
    reverse(simulator, in_live, {}, Refused(404, live_exists, "resource_missing", "id"))
    reverse(simulator, in_test, {}, Refused(404, test_exists, "resource_missing", "id"), LIVE_KEY)
    assert simulator.ledger(kind="reversal") == []


def test_a_keys_mode_can_be_switched_by_command(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    simulator.set_key("sk_test_sandbox", livemode=True)
    answer = simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals")
    assert "a similar object exists in test mode" in answer.error["message"]
    simulator.set_key("sk_test_sandbox", livemode=False)
    assert simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals").status == 200


def test_keys_are_required_known_and_not_revoked(simulator: SimulatorClient) -> None:
    answer = simulator.stripe("GET", "/v1/balance", api_key=None)
    assert answer.status == 401
    assert answer.error["message"].startswith("You did not provide an API key. You need to provide your API key")
    unknown = "sk_test_0123456789abcdefghijklmn"
    hidden = "sk_test_******************ijklmn"
    check(simulator, "GET", "/v1/balance", {}, Refused(401, f"Invalid API Key provided: {hidden}"), unknown)

    simulator.set_key(unknown)
    assert simulator.stripe("GET", "/v1/balance", api_key=unknown).status == 200
    simulator.revoke_key(unknown)
    expired = Refused(401, f"Expired API Key provided: {hidden}", "api_key_expired")
    check(simulator, "GET", "/v1/balance", {}, expired, unknown)
    simulator.restore_key(unknown)
    assert simulator.stripe("GET", "/v1/balance", api_key=unknown).status == 200


def test_bearer_and_basic_authentication_are_both_taken(simulator: SimulatorClient) -> None:
    basic = base64.b64encode(b"sk_test_sandbox:").decode()
    for authorization, status in (
        ("Bearer sk_test_sandbox", 200),
        (f"Basic {basic}", 200),
        ("Basic ???", 401),
        ("Digest sk_test_sandbox", 401),
        ("Bearer", 401),
    ):
        answer = simulator.stripe("GET", "/v1/balance", api_key=None, headers={"Authorization": authorization})
        assert answer.status == status, authorization


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        (
            {"transfer_group": "g"},
            Refused(400, "Received unknown parameter: transfer_group", "parameter_unknown", "transfer_group"),
        ),
        (
            {"reason": "x", "refund": "re_1"},
            Refused(400, "Received unknown parameters: reason, refund", "parameter_unknown", "reason"),
        ),
        ({"amount": "ten"}, Refused(400, "Invalid integer: ten", "parameter_invalid_integer", "amount")),
        ({"amount": "1.5"}, Refused(400, "Invalid integer: 1.5", "parameter_invalid_integer", "amount")),
        (
            {"amount": 0},
            Refused(400, "This value must be greater than or equal to 1.", "parameter_invalid_integer", "amount"),
        ),
        ({"amount": "9" * 19}, Refused(400, None, "parameter_invalid_integer", "amount")),
        ({"amount": "9" * 500}, Refused(400, None, "parameter_invalid_integer", "amount")),
        ({"amount": ""}, Refused(400, None, "parameter_invalid_empty", "amount")),
        ({"refund_application_fee": "maybe"}, Refused(400, None, None, "refund_application_fee")),
        ({"metadata[" + "k" * 41 + "]": "v"}, Refused(400, None, None, "metadata")),
        ({"metadata[k]": "v" * 501}, Refused(400, None, None, "metadata[k]")),
        ({f"metadata[{n}]": "v" for n in range(51)}, Refused(400, None, None, "metadata")),
        ({"metadata": "flat"}, Refused(400, None, None, "metadata")),
        ({"description": "d" * 5001}, Refused(400, None, None, "description")),
    ],
)
def test_bad_parameters_are_refused_and_change_nothing(
    simulator: SimulatorClient, params: dict[str, object], refused: Refused
) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    reverse(simulator, transfer, params, refused)
    assert simulator.ledger(kind="reversal") == []


def test_metadata_within_the_limits_is_kept_also_under_numeric_names(simulator: SimulatorClient) -> None:
    transfer = simulator.create_transfer(SELLER, 100, "usd")
    params = {f"metadata[{n}]": str(n) for n in range(49)} | {"metadata[" + "k" * 40 + "]": "v" * 500}
    answer = simulator.stripe("POST", f"/v1/transfers/{transfer}/reversals", params)
    assert answer.json()["metadata"] == {str(n): str(n) for n in range(49)} | {"k" * 40: "v" * 500}


def test_sends_are_refused_as_stripe_refuses_them(simulator: SimulatorClient) -> None:
    simulator.create_account(SELLER)
    simulator.create_account("acct_1LiveOnly", livemode=True)
    grouped = simulator.create_charge(500, "usd", transfer_group="g")
    good = {"amount": 100, "currency": "usd", "destination": SELLER}

    def refuse(changes: Mapping[str, object], refused: Refused) -> None:
        check(simulator, "POST", "/v1/transfers", {**good, **changes}, refused)

    poor = "You have insufficient available funds in your Stripe account. Try adding funds directly to your "
    poor += "available balance by creating Charges using the 4000000000000077 test card. See: "
    poor += "https://stripe.com/docs/testing#available-balance"
    refuse({}, Refused(400, poor, "balance_insufficient"))
    nobody = "No such destination: 'acct_1Nobody'"
    refuse({"destination": "acct_1Nobody"}, Refused(400, nobody, "resource_missing", "destination"))
    elsewhere = "No such destination: 'acct_1LiveOnly'; a similar object exists in live mode, "
    elsewhere += "but a test mode key was used to make this request."
    refuse({"destination": "acct_1LiveOnly"}, Refused(400, elsewhere, "resource_missing", "destination"))
    uncharged = Refused(400, "No such charge: 'ch_nope'", "resource_missing", "source_transaction")
    refuse({"source_transaction": "ch_nope"}, uncharged)
    both = "You cannot use transfer_group if the source_transaction already has one set."
    refuse({"source_transaction": grouped, "transfer_group": "other"}, Refused(400, both, param="transfer_group"))
    refuse({"source_transaction": grouped, "amount": 501}, Refused(400, None))
    refuse({"source_transaction": grouped, "currency": "eur"}, Refused(400, None, param="currency"))
    refuse({"currency": "dollars"}, Refused(400, "Invalid currency: dollars", param="currency"))
    missing = Refused(400, "Missing required param: destination.", "parameter_missing", "destination")
    check(simulator, "POST", "/v1/transfers", {"amount": 1, "currency": "usd"}, missing)
    assert [entry.kind for entry in simulator.ledger()] == ["charge"]


def test_a_charge_without_a_group_takes_one_from_the_transfer(simulator: SimulatorClient) -> None:
    simulator.create_account(SELLER)
    charge = simulator.create_charge(500, "usd")
    params = {"amount": 100, "currency": "usd", "destination": SELLER, "source_transaction": charge}
    answer = simulator.stripe("POST", "/v1/transfers", {**params, "transfer_group": "mine"})
    assert answer.json()["transfer_group"] == "mine"
    assert simulator.stripe("POST", "/v1/transfers", {**params, "amount": 401}).status == 400
    assert simulator.stripe("POST", "/v1/transfers", {**params, "amount": 400}).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/customers"),
        ("POST", "/v1/payouts"),
        ("DELETE", "/v1/transfers/tr_1"),
        ("POST", "/v1/transfers//reversals"),
        ("GET", "/"),
    ],
)
def test_urls_that_are_not_simulated_are_unrecognized(simulator: SimulatorClient, method: str, path: str) -> None:
    answer = simulator.stripe(method, path)
    assert answer.status == 404
    assert answer.error["message"].startswith(f"Unrecognized request URL ({method}: {path}).")
    assert answer.error["type"] == "invalid_request_error"


def test_bodies_are_bounded(simulator: SimulatorClient) -> None:
    answer = simulator.stripe("POST", "/v1/transfers", {"description": "x" * 100_000})
    assert answer.status == 413


def test_list_parameters_are_checked(simulator: SimulatorClient) -> None:
    def refuse(params: Mapping[str, object], refused: Refused) -> None:
        check(simulator, "GET", "/v1/transfers", params, refused)

    refuse({"limit": 0}, Refused(400, None, "parameter_invalid_integer", "limit"))
    refuse({"limit": 101}, Refused(400, None, "parameter_invalid_integer", "limit"))
    unknown = Refused(400, "No such transfer: 'tr_x'", "resource_missing", "starting_after")
    refuse({"starting_after": "tr_x"}, unknown)
    refuse({"starting_after": "tr_x", "ending_before": "tr_y"}, Refused(400, None, param="starting_after"))
    refuse({"created[since]": 1}, Refused(400, None, "parameter_unknown", "since"))
    refuse({"metadata[order]": "17"}, Refused(400, None, "parameter_unknown", "metadata"))


def test_commands_that_cannot_be_done_say_why_and_change_nothing(simulator: SimulatorClient) -> None:
    with pytest.raises(ControlRefused, match="no such account: acct_1Nobody"):
        simulator.fund(1, "usd", account="acct_1Nobody")
    with pytest.raises(ControlRefused, match="currency"):
        simulator.fund(1, "DOLLARS")
    with pytest.raises(ControlRefused, match="seconds"):
        simulator.advance_clock(-1)
    with pytest.raises(ControlRefused, match="explode"):
        simulator.add_fault("explode")
    with pytest.raises(ControlRefused, match="when_ever"):
        simulator.add_fault("delay", seconds=1, when_ever="after")
    with pytest.raises(ControlRefused, match="no such reversal"):
        simulator.settle_reversal("trr_nope", "failed")
    assert simulator.ledger() == []
    assert simulator.faults() == []
