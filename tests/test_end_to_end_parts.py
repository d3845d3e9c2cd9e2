"""Refunds in parts, over HTTP: each part is reversed once, with its own amount, and the parts add up at Stripe too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, rows
from tests.support.orders import open_rows, pay_sellers, refund, reversals_of
from tests.support.runners import StartRunner, runners, wait_until
from tests.support.transfers import call


@pytest.fixture
def start_runner(dsn: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(dsn, simulator.base_url, tmp_path) as start:
        yield start


def test_part_after_part_and_then_the_rest_is_reversed_and_adds_up(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    (transfer,) = pay_sellers(db, simulator, "parts")
    start_runner("blue")
    start_runner("green")
    for n, amount in enumerate((300, 300, 1), start=1):
        part = Jsonb([{"transfer_key": "key-parts", "amount": amount}])
        call(db, "request_reversal", p_order_id="order-parts", p_reversal_request_id=f"re_parts{n}", p_allocation=part)
    refund(db, "parts")
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    made = reversals_of(simulator, transfer)
    assert sorted(entry.amount for entry in made) == [1, 300, 300, 399]
    found = rows(
        db,
        "select amount, status, reversal_request_id, stripe_reversal_id from marketplace.seller_transfers order by id",
    )
    assert [(each["amount"], each["status"], each["reversal_request_id"]) for each in found] == [
        (399, "reversed", "re_parts"),
        (300, "reversed", "re_parts1"),
        (300, "reversed", "re_parts2"),
        (1, "reversed", "re_parts3"),
    ]
    assert {each["stripe_reversal_id"]: each["amount"] for each in found} == {
        entry.reversal: entry.amount for entry in made
    }
    # By which a person at Stripe finds the order: a slice has no key of its own.
    assert {entry.metadata["transfer_key"] for entry in made} == {"key-parts"}
    assert {entry.metadata["reversal_request_id"] for entry in made} == {
        "re_parts",
        "re_parts1",
        "re_parts2",
        "re_parts3",
    }
