"""Two slices of one transfer: never two live leases among them.

Stripe answers parallel calls on one transfer with 429, and what one of them does changes what is left for the other.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.databases import Database, value
from tests.support.transfers import claim, lapse_lease, record_one, record_transfer, request_reversal, timeout
from tests.support.two_sessions import SECONDS, Stage

pytest_plugins = ("tests.support.stage",)


@pytest.fixture
def slices(stage: Stage) -> tuple[int, int]:
    """Two parts of one transfer, both due; the first has been longer."""
    n = 1 + value(stage.first, "select count(*) from marketplace.seller_transfers")
    record_transfer(stage.first, n)
    (one,) = refund_part(stage.first, n, "one", 300)
    (two,) = refund_part(stage.first, n, "two", 200)
    return one["id"], two["id"]


def refund_part(db: Database, n: int, request: str, amount: int) -> list[DictRow]:
    allocation = Jsonb([{"transfer_key": f"key-{n}", "amount": amount}])
    return request_reversal(db, n, p_reversal_request_id=f"re_{n}_{request}", p_allocation=allocation)


def claimed(db: Database, worker: str = "worker-2", limit: int = 10) -> list[int]:
    return [each["id"] for each in claim(db, limit, worker)]


def live_leases(db: Database) -> int:
    found = value(db, "select count(*) from marketplace.seller_transfers where lease_expires_at > clock_timestamp()")
    return int(found)


def test_one_claim_gets_one_of_them(stage: Stage, slices: tuple[int, int]) -> None:
    assert claimed(stage.first) == [slices[0]]
    assert claimed(stage.second) == []


@pytest.mark.parametrize("committed", [True, False])
def test_two_claims_at_once_get_one_of_them_together(stage: Stage, slices: tuple[int, int], committed: bool) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        with stage.first.transaction(force_rollback=not committed):
            assert claimed(stage.first, "worker-1", limit=1) == [slices[0]]
            claiming = pool.submit(claimed, stage.second)
            stage.wait_for(stage.second)
        assert claiming.result(SECONDS) == ([] if committed else [slices[0]])

    assert live_leases(stage.first) == 1


def test_a_report_on_one_frees_the_other_when_it_is_committed(stage: Stage, slices: tuple[int, int]) -> None:
    (leased,) = claim(stage.first, worker="worker-1")
    with stage.first.transaction():
        record_one(stage.first, timeout(leased))
        assert claimed(stage.second) == []

    assert claimed(stage.second) == [slices[1]]


def test_one_that_a_dba_holds_does_not_keep_the_other(stage: Stage, slices: tuple[int, int]) -> None:
    with stage.first.transaction():
        stage.first.execute("select from marketplace.seller_transfers where id = %s for update", [slices[0]])
        assert claimed(stage.second) == [slices[1]]

    assert claimed(stage.second, "worker-3") == []


def test_one_whose_lease_ran_out_and_the_other_are_not_leased_both(stage: Stage, slices: tuple[int, int]) -> None:
    assert claimed(stage.first, "worker-1") == [slices[0]]
    lapse_lease(stage.first, slices[0])

    assert len(claimed(stage.second)) == 1
    assert claimed(stage.first, "worker-3") == []
    assert live_leases(stage.first) == 1
