"""The simulator's objects and lists, through Stripe's own SDK: what a payments engineer would expect of Stripe."""

from collections.abc import AsyncIterator, Callable

import pytest
import stripe

from runner.sandbox.simulator import LIVE_KEY, TEST_KEY, SimulatorClient

Sdk = Callable[[str], stripe.StripeClient]


def _fields(names: str) -> set[str]:
    return set(names.split())


TRANSFER_FIELDS = _fields(
    "id object amount amount_reversed balance_transaction created currency description destination "
    "destination_payment livemode metadata reversals reversed source_transaction source_type transfer_group"
)
REVERSAL_FIELDS = _fields(
    "id object amount balance_transaction created currency destination_payment_refund metadata source_refund transfer"
)
BALANCE_FIELDS = {"object", "available", "connect_reserved", "livemode", "pending"}
ACCOUNT_FIELDS = _fields(
    "id object business_profile business_type capabilities charges_enabled controller country created "
    "default_currency details_submitted email external_accounts future_requirements metadata payouts_enabled "
    "requirements settings tos_acceptance type"
)
CHARGE_FIELDS = _fields(
    "id object amount amount_captured amount_refunded application application_fee application_fee_amount "
    "balance_transaction billing_details calculated_statement_descriptor captured created currency customer "
    "description disputed failure_balance_transaction failure_code failure_message fraud_details livemode metadata "
    "on_behalf_of outcome paid payment_intent payment_method payment_method_details receipt_email receipt_number "
    "receipt_url refunded refunds review shipping source source_transfer statement_descriptor "
    "statement_descriptor_suffix status transfer_data transfer_group"
)


@pytest.fixture
async def sdk(simulator: SimulatorClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sdk]:
    """Stripe's SDK for an API key, talking to the simulator."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    http_client = stripe.AIOHTTPClient()

    def client(api_key: str) -> stripe.StripeClient:
        return stripe.StripeClient(
            api_key,
            base_addresses={"api": simulator.base_url},
            max_network_retries=0,
            http_client=http_client,
        )

    yield client
    await http_client.close_async()  # type: ignore[no-untyped-call] # the SDK's own is untyped


@pytest.fixture
def client(sdk: Sdk) -> stripe.StripeClient:
    return sdk(TEST_KEY)


async def test_a_transfer_moves_money_and_has_every_field(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    seller = simulator.create_account()
    simulator.fund(1000, "usd")
    made = await client.v1.transfers.create_async(
        {
            "amount": 700,
            "currency": "usd",
            "destination": seller,
            "transfer_group": "order-17",
            "description": "books",
            "metadata": {"order": "17"},
        }
    )
    body = made.to_dict()
    assert set(body) == TRANSFER_FIELDS
    assert body["id"].startswith("tr_1")
    assert body["destination_payment"].startswith("py_")
    assert body["balance_transaction"].startswith("txn_")
    constant = {
        "object": "transfer",
        "amount": 700,
        "amount_reversed": 0,
        "currency": "usd",
        "description": "books",
        "destination": seller,
        "livemode": False,
        "metadata": {"order": "17"},
        "reversed": False,
        "source_transaction": None,
        "source_type": "card",
        "transfer_group": "order-17",
    }
    assert {name: body[name] for name in constant} == constant
    envelope = {"object": "list", "data": [], "has_more": False, "url": f"/v1/transfers/{made.id}/reversals"}
    assert body["reversals"] == envelope
    assert (await client.v1.transfers.retrieve_async(made.id)).to_dict() == body
    assert simulator.balances() == {
        "outside": {"usd": -1000},
        "acct_1SandboxPlatform": {"usd": 300},
        seller: {"usd": 700},
    }


async def test_the_answer_headers_are_those_of_stripe(simulator: SimulatorClient, client: stripe.StripeClient) -> None:
    transfer = simulator.create_transfer("acct_1Seller", 100, "usd")
    reversal = await client.v1.transfers.reversals.create_async(transfer, {}, {"idempotency_key": "key-1"})
    assert reversal.last_response is not None
    headers = reversal.last_response.headers
    assert headers["Request-Id"].startswith("req_")
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["Original-Request"] == headers["Request-Id"]
    assert headers["Stripe-Version"] == stripe.api_version
    assert "Idempotent-Replayed" not in headers


async def test_partial_reversals_add_up_and_only_the_last_makes_it_reversed(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    transfer = simulator.create_transfer("acct_1Seller", 1000, "usd")
    first = await client.v1.transfers.reversals.create_async(
        transfer, {"amount": 400, "metadata": {"refund": "re_1"}, "description": "part"}
    )
    assert set(first.to_dict()) == REVERSAL_FIELDS
    assert (first.object, first.amount, first.currency, first.transfer) == ("transfer_reversal", 400, "usd", transfer)
    assert first.to_dict()["metadata"] == {"refund": "re_1"}
    half = await client.v1.transfers.retrieve_async(transfer)
    assert (half.amount_reversed, half.reversed) == (400, False)

    rest = await client.v1.transfers.reversals.create_async(transfer, {})
    assert rest.amount == 600
    whole = await client.v1.transfers.retrieve_async(transfer)
    assert (whole.amount_reversed, whole.reversed) == (1000, True)
    assert [each.id for each in whole.reversals.data] == [rest.id, first.id]
    assert simulator.balances()["acct_1Seller"] == {"usd": 0}


async def test_a_reversal_is_retrieved_by_its_own_id(simulator: SimulatorClient, client: stripe.StripeClient) -> None:
    transfer, other = (simulator.create_transfer("acct_1Seller", 100, "usd") for _ in range(2))
    made = await client.v1.transfers.reversals.create_async(transfer, {"amount": 30})
    found = await client.v1.transfers.reversals.retrieve_async(transfer, made.id)
    assert found.to_dict() == made.to_dict()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.transfers.reversals.retrieve_async(other, made.id)
    assert refusal.value.http_status == 404


async def test_a_transfer_embeds_its_ten_newest_reversals_and_the_list_has_them_all(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    transfer = simulator.create_transfer("acct_1Seller", 1000, "usd")
    made = [(await client.v1.transfers.reversals.create_async(transfer, {"amount": 1})).id for _ in range(12)]
    embedded = (await client.v1.transfers.retrieve_async(transfer)).reversals
    assert [each.id for each in embedded.data] == made[:1:-1]
    assert embedded.has_more
    page = await client.v1.transfers.reversals.list_async(transfer, {"limit": 5})
    assert [each.id for each in page.data] == made[:6:-1]
    assert page.url == f"/v1/transfers/{transfer}/reversals"
    assert [each.id async for each in page.auto_paging_iter()] == made[::-1]


async def test_lists_are_paged_in_both_directions(simulator: SimulatorClient, client: stripe.StripeClient) -> None:
    new = {"destination": "acct_1Seller", "amount": 100, "currency": "usd"}
    oldest_first = simulator.create_transfers([new] * 25)
    first = await client.v1.transfers.list_async({})
    assert [each.id for each in first.data] == oldest_first[24:14:-1]
    assert (first.has_more, first.url) == (True, "/v1/transfers")
    last = await client.v1.transfers.list_async({"limit": 20, "starting_after": oldest_first[15]})
    assert [each.id for each in last.data] == oldest_first[14::-1]
    assert not last.has_more
    newer = await client.v1.transfers.list_async({"limit": 3, "ending_before": oldest_first[10]})
    assert [each.id for each in newer.data] == [oldest_first[13], oldest_first[12], oldest_first[11]]
    assert newer.has_more
    newest = await client.v1.transfers.list_async({"limit": 3, "ending_before": oldest_first[22]})
    assert [each.id for each in newest.data] == [oldest_first[24], oldest_first[23]]
    assert not newest.has_more


async def test_transfers_are_filtered_by_destination_group_and_time(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    def new(destination: str, group: str) -> dict[str, object]:
        return {"destination": destination, "amount": 100, "currency": "usd", "transfer_group": group}

    ann_1, ben_1 = simulator.create_transfers([new("acct_1Ann", "g1"), new("acct_1Ben", "g1")])
    simulator.advance_clock(3600)
    ann_2, ben_2 = simulator.create_transfers([new("acct_1Ann", "g2"), new("acct_1Ben", "g2")])
    later = (await client.v1.transfers.retrieve_async(ann_2)).created

    async def ids(params: stripe.params.TransferListParams) -> list[str]:
        return [each.id for each in (await client.v1.transfers.list_async(params)).data]

    assert await ids({"destination": "acct_1Ann"}) == [ann_2, ann_1]
    assert await ids({"transfer_group": "g1"}) == [ben_1, ann_1]
    assert await ids({"destination": "acct_1Ben", "transfer_group": "g2"}) == [ben_2]
    assert await ids({"destination": "acct_1Nobody"}) == []
    assert await ids({"created": {"gte": later - 60}}) == [ben_2, ann_2]
    assert await ids({"created": {"lt": later - 60}}) == [ben_1, ann_1]
    assert await ids({"created": {"gt": later - 7200, "lte": later - 60}}) == [ben_1, ann_1]
    assert await ids({"created": {"gt": later + 60}}) == []
    # The simulated second itself: in, or out, by the filter's name.
    assert await ids({"created": later, "destination": "acct_1Ann"}) == [ann_2]
    assert await ids({"created": {"gte": later, "lte": later}, "destination": "acct_1Ann"}) == [ann_2]
    assert await ids({"created": {"gt": later}, "destination": "acct_1Ann"}) == []
    assert await ids({"created": {"lt": later}, "destination": "acct_1Ann"}) == [ann_1]
    assert await ids({"destination": "acct_1Ann", "starting_after": ann_2}) == [ann_1]


async def test_a_charge_funds_a_transfer_and_hands_down_its_group(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    seller = simulator.create_account()
    charge = simulator.create_charge(900, "usd", transfer_group="order-9")
    found = (await client.v1.charges.retrieve_async(charge)).to_dict()
    assert set(found) == CHARGE_FIELDS
    assert (found["amount"], found["status"], found["transfer_group"]) == (900, "succeeded", "order-9")

    # The platform has no available money at all: it is the charge that pays.
    made = await client.v1.transfers.create_async(
        {"amount": 800, "currency": "usd", "destination": seller, "source_transaction": charge}
    )
    assert (made.source_transaction, made.transfer_group) == (charge, "order-9")
    assert simulator.balances()["acct_1SandboxPlatform/pending"] == {"usd": 100}
    balance = await client.v1.balance.retrieve_async()
    assert [funds.amount for funds in balance.pending] == [100]


async def test_balances_are_shown_for_the_platform_and_on_behalf_of_a_seller(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    seller = simulator.create_account(currency="eur")
    simulator.fund(500, "jpy")
    simulator.fund(70, "eur", account=seller)
    own = (await client.v1.balance.retrieve_async()).to_dict()
    assert set(own) == BALANCE_FIELDS
    assert own["livemode"] is False
    assert own["available"] == [{"amount": 500, "currency": "jpy", "source_types": {"card": 500}}]
    theirs = await client.v1.balance.retrieve_async({}, {"stripe_account": seller})
    assert [(funds.amount, funds.currency) for funds in theirs.available] == [(70, "eur")]


async def test_accounts_are_shown_and_unknown_ones_refused(
    simulator: SimulatorClient, client: stripe.StripeClient
) -> None:
    own = (await client.v1.accounts.retrieve_current_async()).to_dict()
    assert set(own) == ACCOUNT_FIELDS
    assert own["id"] == "acct_1SandboxPlatform"
    seller = simulator.create_account(currency="eur")
    found = await client.v1.accounts.retrieve_async(seller)
    assert (found.id, found.default_currency) == (seller, "eur")
    with pytest.raises(stripe.PermissionError) as refusal:
        await client.v1.accounts.retrieve_async("acct_1Nobody")
    assert refusal.value.http_status == 403
    assert refusal.value.error is not None
    assert refusal.value.error.code == "account_invalid"


async def test_test_and_live_keys_see_only_their_own_mode(
    simulator: SimulatorClient, client: stripe.StripeClient, sdk: Sdk
) -> None:
    live = sdk(LIVE_KEY)
    in_test = simulator.create_transfer("acct_1Seller", 100, "usd")
    in_live = simulator.create_transfer("acct_1Seller", 100, "usd", livemode=True)
    assert [each.id for each in (await client.v1.transfers.list_async({})).data] == [in_test]
    assert [each.id for each in (await live.v1.transfers.list_async({})).data] == [in_live]
    assert (await live.v1.transfers.retrieve_async(in_live)).livemode is True
    assert (await client.v1.balance.retrieve_async()).livemode is False
    assert (await live.v1.balance.retrieve_async()).livemode is True


async def test_named_objects_are_expanded_in_place(simulator: SimulatorClient, client: stripe.StripeClient) -> None:
    transfer = simulator.create_transfer("acct_1Seller", 100, "usd")
    reversal = await client.v1.transfers.reversals.create_async(transfer, {"amount": 40, "expand": ["transfer"]})
    assert isinstance(reversal.transfer, stripe.Transfer)
    assert (reversal.transfer.id, reversal.transfer.amount_reversed) == (transfer, 40)
    found = await client.v1.transfers.retrieve_async(transfer, {"expand": ["destination"]})
    assert isinstance(found.destination, stripe.Account)
    assert found.destination.id == "acct_1Seller"
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.transfers.retrieve_async(transfer, {"expand": ["amount"]})


async def test_what_is_not_simulated_is_an_honest_404(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.customers.list_async()
    assert refusal.value.http_status == 404
    assert str(refusal.value.user_message).startswith("Unrecognized request URL (GET: /v1/customers).")
