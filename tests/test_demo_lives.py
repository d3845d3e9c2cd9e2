"""The orders whose whole life the demo shows: planned by hand, played at the simulator, compared and told."""

import io
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from runner.sandbox.demo_buyers import Buyers
from runner.sandbox.demo_lives import Do, Life, Share, Step, keeps_by_seller, make_lives
from runner.sandbox.demo_lives_report import Moved, find_life_differences, lives_table, read_moved, sellers_table
from runner.sandbox.simulator import SimulatorClient

EXPONENTS = {"usd": 2, "eur": 2, "gbp": 2, "jpy": 0, "kwd": 3}
QUANTUM = {"usd": 1, "eur": 1, "gbp": 1, "jpy": 1, "kwd": 10}


def gone_after(life: Life) -> list[int]:
    """What the buyer has of their money back, after each step that moves any."""
    gone, newest_refund, disputed = [0], 0, 0
    for step in (*life.early, *(step for round_ in life.rounds for step in round_)):
        if step.do is Do.REFUND:
            newest_refund = step.amount or 0
            gone.append(gone[-1] + newest_refund)
        elif step.do is Do.REFUND_FAILS:
            gone.append(gone[-1] - newest_refund)
        elif step.do is Do.DISPUTE:
            disputed = step.amount or 0
        elif step.do is Do.WITHDRAW:
            gone.append(gone[-1] + disputed)
        elif step.do is Do.REINSTATE:
            gone.append(gone[-1] - (step.amount or disputed))
    return gone


@pytest.mark.parametrize("life", make_lives(), ids=lambda life: life.told)
def test_the_plan_is_right_and_comes_out_even_at_every_step(life: Life) -> None:
    for share in life.shares:
        for gone in gone_after(life):
            kept, rest = divmod(share.amount * (life.charged - gone), life.charged)
            assert (rest, kept % QUANTUM[life.currency]) == (0, 0)
        assert share.keeps == kept
    assert 10 * sum(share.amount for share in life.shares) == 9 * life.charged


def test_there_is_one_of_everything_with_one_seller_and_with_several() -> None:
    lives = make_lives()
    done = {step.do for life in lives for steps in (life.early, *life.rounds) for step in steps}
    assert done == set(Do)
    assert {(len(life.shares) > 1, life.names_charge) for life in lives} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert {life.currency for life in lives} == set(EXPONENTS)
    assert any(life.early for life in lives)
    assert len({life.order_id for life in lives}) == len({life.told for life in lives}) == len(lives)


def test_what_each_seller_keeps_is_the_sum_of_these() -> None:
    ann = {
        "usd": 9_000 + 0 + 4_200,
        "eur": 9_000 + 10_000,
        "gbp": 2_000,
        "kwd": 9_000,
    }
    keeps = keeps_by_seller(make_lives())
    assert {currency: keeps["acct_1LifeAnn", currency] for currency in EXPONENTS} == {"jpy": 0, **ann}


class Runners:
    """Does by hand what runners are to do: send what is due, and move what sellers have to what they should have."""

    def __init__(self, stripe: SimulatorClient) -> None:
        self.stripe = stripe
        self.transfers: dict[str, list[str]] = {}

    def send(self, life: Life, charge: str, share: Share, amount: int) -> None:
        origin = {"source_transaction": charge} if life.names_charge else {"transfer_group": life.order_id}
        params = {"amount": amount, "currency": life.currency, "destination": share.account, **origin}
        answer = self.stripe.stripe("POST", "/v1/transfers", {**params, "metadata[order_id]": life.order_id})
        assert answer.status == 200, answer.body
        self.transfers.setdefault(share.key, []).append(answer.json()["id"])

    def settle(self, life: Life, share: Share, should: int) -> None:
        """Bring one seller to what they should have: take back, or pay a compensation from the balance."""
        has = 0
        for transfer in self.transfers[share.key]:
            body = self.stripe.stripe("GET", f"/v1/transfers/{transfer}").json()
            has += body["amount"] - body["amount_reversed"]
        if has > should:
            path = f"/v1/transfers/{self.transfers[share.key][-1]}/reversals"
            assert self.stripe.stripe("POST", path, {"amount": has - should}).status == 200
        elif has < should:
            self.stripe.fund(should - has, life.currency)
            self.send(replace(life, names_charge=False), "", share, should - has)


@pytest.fixture
def played(simulator: SimulatorClient) -> tuple[list[Life], dict[str, Moved]]:
    """All lives, played to their end, and what the ledger has of them."""
    lives, buyers, runners = make_lives(), Buyers(simulator), Runners(simulator)
    charges = buyers.pay(lives)
    for life in lives:
        charged = life.charged
        for step in life.early:
            buyers.do(life, step)
            charged -= step.amount or 0
        for share in life.shares:
            amount = share.amount * charged // life.charged
            if amount:
                runners.send(life, charges[life.order_id], share, amount)
        for number, round_ in enumerate(life.rounds, start=1):
            for step in round_:
                buyers.do(life, step)
            gone = gone_after(replace(life, rounds=life.rounds[:number]))[-1]
            for share in life.shares:
                runners.settle(life, share, share.amount * (life.charged - gone) // life.charged)
    return lives, read_moved(simulator.ledger(), charges)


def as_planned(lives: list[Life]) -> Counter[tuple[str, str]]:
    """What a database says in which everything went well."""
    return Counter({(life.order_id, share.account): share.keeps for life in lives for share in life.shares})


def test_played_at_the_simulator_it_ends_as_planned(
    played: tuple[list[Life], dict[str, Moved]], simulator: SimulatorClient
) -> None:
    lives, moved = played
    assert find_life_differences(lives, moved, as_planned(lives)) == []
    assert {life.order_id: moved[life.order_id].to_buyer for life in lives} == {
        life.order_id: gone_after(life)[-1] for life in lives
    }
    kept = simulator.sent_minus_reversed()
    assert {key: kept[key[0]][key[1]] for key in keeps_by_seller(lives)} == dict(keeps_by_seller(lives))


def test_every_order_is_told_in_a_line_of_the_table(played: tuple[list[Life], dict[str, Moved]]) -> None:
    lives, moved = played
    console = Console(width=160, file=io.StringIO(), record=True)
    for table in (lives_table, sellers_table):
        console.print(table(lives, moved, as_planned(lives), EXPONENTS))
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines()]

    assert ["refunded by half", "usd", "100.00", "50.00", "90.00", "45.00", "45.00", "yes"] in lines
    assert ["disputed, and won", "eur", "60.00", "0.00", "108.00", "54.00", "54.00", "yes"] in lines
    before = "refunded by a fifth before the seller was paid"
    assert [before, "eur", "100.00", "20.00", "72.00", "0.00", "72.00", "yes"] in lines
    assert [
        "refunded twice in part, two sellers",
        "kwd",
        "30.000",
        "15.000",
        "27.000",
        "13.500",
        "13.500",
        "yes",
    ] in lines
    assert [line[0] for line in lines if line[-1] == "yes"][: len(lives)] == [life.told for life in lives]
    assert ["ann", "eur", "190.00", "190.00", "190.00", "yes"] in lines
    assert ["dov", "usd", "0.00", "0.00", "0.00", "yes"] in lines


def test_what_does_not_agree_is_said_and_shown(played: tuple[list[Life], dict[str, Moved]]) -> None:
    lives, moved = played
    first, second = lives[0], lives[1]
    database = as_planned(lives)
    database[first.order_id, "acct_1LifeAnn"] -= 1
    moved[second.order_id].back["acct_1LifeBen"] += 5
    moved[second.order_id].sent["acct_1Stranger"] += 7

    assert find_life_differences(lives, moved, database) == [
        "life-01 (paid out, one seller): acct_1LifeAnn should keep 9000 usd, by the ledger it keeps 9000,"
        " by the database 8999",
        "life-02 (paid out from the balance, three sellers): acct_1LifeBen should keep 6000 eur, by the ledger it keeps"
        " 5995, by the database 6000",
        "life-02 (paid out from the balance, three sellers): acct_1Stranger should keep 0 eur, by the ledger it keeps"
        " 7, by the database 0",
    ]
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(lives_table(lives[:3], moved, database, EXPONENTS))
    assert [line.strip(" │").endswith("NO") for line in console.export_text().splitlines()].count(True) == 2


def test_a_failure_is_that_of_the_newest_refund(simulator: SimulatorClient) -> None:
    (life,) = [each for each in make_lives() if each.told == "refunded twice in part, the second one failed"]
    buyers = Buyers(simulator)
    charge = buyers.pay([life])[life.order_id]
    for step in (Step(Do.REFUND, 2_500), Step(Do.REFUND, 5_000), Step(Do.REFUND_FAILS)):
        buyers.do(life, step)

    assert simulator.stripe("GET", f"/v1/charges/{charge}").json()["amount_refunded"] == 2_500
