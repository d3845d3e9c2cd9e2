"""The simulator's sends: found again in a filtered list, refused, replayed, and gone wrong on the way."""

import http.client
from typing import Any

import pytest

from runner.sandbox.simulator import SimulatorClient, StripeAnswer

SELLER = "acct_1Seller"
PLATFORM = "acct_1SandboxPlatform"


@pytest.fixture
def stripe(simulator: SimulatorClient) -> SimulatorClient:
    """A simulator with a seller and 1000 usd of the platform's."""
    simulator.create_account(SELLER)
    simulator.fund(1000, "usd")
    return simulator


def send(stripe: SimulatorClient, key: str | None = None, **params: object) -> StripeAnswer:
    """Send 100 usd to the seller."""
    given = {"amount": 100, "currency": "usd", "destination": SELLER, **params}
    return stripe.stripe("POST", "/v1/transfers", given, idempotency_key=key)


def listed(stripe: SimulatorClient, **params: object) -> tuple[list[str], bool]:
    """One page of the list of transfers: the ids, and whether there is more."""
    answer = stripe.stripe("GET", "/v1/transfers", params)
    assert answer.status == 200
    page: dict[str, Any] = answer.json()
    assert (page["object"], page["url"]) == ("list", "/v1/transfers")
    return [each["id"] for each in page["data"]], page["has_more"]


def moved(stripe: SimulatorClient) -> int:
    """What the seller got, by the ledger."""
    return sum(entry.moved for entry in stripe.ledger(kind="transfer") if entry.credit == SELLER)


def test_a_page_has_what_filters_limit_and_cursor_ask_for_together(simulator: SimulatorClient) -> None:
    ours = {"destination": SELLER, "amount": 1, "currency": "usd", "transfer_group": "ours"}
    others = [ours | {"destination": "acct_1Other"}, ours | {"transfer_group": "theirs"}]
    old = simulator.create_transfers([ours] * 3)
    simulator.advance_clock(1000)
    made: list[str] = []
    elsewhere: list[str] = []
    for _ in range(5):
        mine, foreign, other_group = simulator.create_transfers([ours, *others])
        made.insert(0, mine)
        elsewhere += [foreign, other_group]
    since = simulator.stripe("GET", f"/v1/transfers/{made[-1]}").json()["created"]
    asked = {"destination": SELLER, "transfer_group": "ours", "created[gte]": since}

    assert listed(simulator, **asked) == (made, False)
    assert listed(simulator, **asked, limit=5) == (made, False)
    assert listed(simulator, **asked, limit=2) == (made[:2], True)
    assert listed(simulator, **asked, limit=2, starting_after=made[1]) == (made[2:4], True)
    assert listed(simulator, **asked, limit=2, starting_after=made[3]) == (made[4:], False)
    assert listed(simulator, **asked, starting_after=made[4]) == ([], False)
    assert listed(simulator, **asked, limit=2, ending_before=made[4]) == (made[2:4], True)
    # A place in the list is one whatever the filter; newer ones stand before it.
    assert listed(simulator, **asked, starting_after=elsewhere[1]) == (made[4:], False)
    assert listed(simulator, **asked, starting_after=old[0]) == ([], False)
    assert listed(simulator, destination=SELLER, **{"created[lt]": since}) == (old[::-1], False)
    assert listed(simulator, destination=SELLER, **{"created[gt]": since + 5}) == ([], False)


def test_ten_thousand_transfers_are_made_at_once_and_listed_page_by_page(simulator: SimulatorClient) -> None:
    new = {"destination": SELLER, "amount": 1, "currency": "usd", "metadata": {"order": "17"}}
    made = simulator.create_transfers([new] * 10_000)[::-1]

    assert listed(simulator, destination=SELLER, limit=100) == (made[:100], True)
    assert listed(simulator, destination=SELLER, limit=100, starting_after=made[9_899]) == (made[9_900:], False)


def test_from_a_charge_with_a_group_no_group_may_be_named_not_even_its_own(stripe: SimulatorClient) -> None:
    charge = stripe.create_charge(500, "usd", transfer_group="order-17")

    for group in ("order-17", "another"):
        refused = send(stripe, source_transaction=charge, transfer_group=group)
        assert (refused.status, refused.error["param"]) == (400, "transfer_group")
    made = send(stripe, source_transaction=charge).json()

    assert (made["source_transaction"], made["transfer_group"]) == (charge, "order-17")
    assert listed(stripe, transfer_group="order-17") == ([made["id"]], False)


def test_too_little_balance_is_refused_and_replayed_when_there_is_enough_again(stripe: SimulatorClient) -> None:
    stripe.fund(-901, "usd")

    first = send(stripe, "key-1")
    stripe.fund(1, "usd")
    again, anew = send(stripe, "key-1"), send(stripe, "key-2")

    assert [(each.status, each.error["code"]) for each in (first, again)] == [(400, "balance_insufficient")] * 2
    assert (first.replayed, again.replayed, anew.status) == (False, True, 200)
    assert (moved(stripe), stripe.balances()[PLATFORM]) == (100, {"usd": 0})


@pytest.mark.parametrize(
    ("fault", "amount"),
    [
        ({"action": "drop_before"}, 0),
        ({"action": "drop_after"}, 100),
        ({"action": "truncated"}, 100),
        ({"action": "hang_body", "seconds": 0.05}, 100),
        ({"action": "hang_body", "seconds": 0.05, "committed": False}, 0),
    ],
    ids=str,
)
def test_an_answer_to_a_send_gets_lost_before_or_after_money_moved(
    stripe: SimulatorClient, fault: dict[str, Any], amount: int
) -> None:
    stripe.add_fault(**fault, match={"destination": SELLER})

    with pytest.raises((http.client.RemoteDisconnected, http.client.IncompleteRead)):
        send(stripe, "key-1")

    assert moved(stripe) == amount
    again = send(stripe, "key-1")
    assert (again.status, again.replayed, moved(stripe)) == (200, amount > 0, 100)


def test_a_500_after_money_moved_is_what_the_key_replays(stripe: SimulatorClient) -> None:
    stripe.add_fault("error_after", match={"method": "POST", "path": "^/v1/transfers$"})

    answers = [send(stripe, "key-1") for _ in range(2)]

    assert [(each.status, each.replayed) for each in answers] == [(500, False), (500, True)]
    assert moved(stripe) == 100
    assert len(listed(stripe, destination=SELLER)[0]) == 1


def test_a_send_held_up_on_its_way_is_listed_as_of_when_it_arrived(stripe: SimulatorClient) -> None:
    stripe.add_fault("execute_late", match={"destination": SELLER})
    with pytest.raises(http.client.RemoteDisconnected):
        send(stripe, "key-1")
    assert (moved(stripe), listed(stripe, destination=SELLER)) == (0, ([], False))
    now = int(stripe.health()["now"])

    stripe.advance_clock(600)
    assert stripe.run_late() == 1
    stripe.wait_until(lambda: moved(stripe) == 100, "it arrives")

    (late,), _ = listed(stripe, destination=SELLER, **{"created[gte]": now + 600})
    replayed = send(stripe, "key-1")
    assert (replayed.replayed, replayed.json()["id"], moved(stripe)) == (True, late, 100)
