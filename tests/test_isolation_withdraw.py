"""A withdrawal and what else may happen to its order at the same moment: each sees what the other has done."""

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.transfers import (
    call,
    claim,
    claimed_call,
    create_transfer,
    record_one,
    record_transfer,
    refunded_transfer,
    request_reversal,
    success,
)
from tests.support.two_sessions import Act, Stage
from tests.support.withdrawals import Chapter, follow_up, story, withdraw

pytest_plugins = ("tests.support.stage",)

GIVEN_UP: list[Chapter] = [(1000, "permanently_failed", None), (1000, "completed", "succeeds 1")]
GIVEN_BACK: list[Chapter] = [(1000, "reversed", None), (1000, "pending", "compensates 1")]


@pytest.fixture
def n(stage: Stage) -> int:
    """The number of an order that no test before this one had."""
    return 1 + int(value(stage.gate, "select count(*) from marketplace.seller_transfers"))


def withdraws(n: int) -> Act:
    return lambda db, _: f"{len(withdraw(db, n))} rows"


def requests(n: int) -> Act:
    return lambda db, _: f"{len(request_reversal(db, n))} rows"


def records(n: int) -> Act:
    """The app pays a second seller of the order."""
    return lambda db, _: str(record_transfer(db, n + 100_000, p_order_id=f"order-{n}")["status"])


def creates(n: int) -> Act:
    """The app orders a second payment of the order."""
    return lambda db, _: str(create_transfer(db, n + 100_000, p_order_id=f"order-{n}")["status"])


def reports(db: Database, leased: DictRow) -> str:
    """The worker says that the money is back."""
    recorded = str(record_one(db, success(leased))["result"])
    follow_up(db, leased["id"])
    return recorded


def claims(db: Database, _: DictRow) -> str:
    return f"{len(claim(db, worker='worker-2'))} calls"


def told(stage: Stage, n: int) -> list[Chapter]:
    return story(stage.gate, f"order-{n}")


@pytest.mark.parametrize("commits", [True, False])
def test_a_withdrawal_waits_for_its_request_and_undoes_it(stage: Stage, n: int, commits: bool) -> None:
    paid = record_transfer(stage.gate, n)

    found = stage.play(requests(n), withdraws(n), paid, waits=True, commits=commits)

    assert (found, told(stage, n)) == (("2 rows", GIVEN_UP) if commits else ("0 rows", [(1000, "completed", None)]))
    # Where the request was undone, its withdrawal came first, and stands.
    assert len(request_reversal(stage.gate, n)) == (1 if commits else 0)
    assert len(told(stage, n)) == (2 if commits else 1)


@pytest.mark.parametrize("commits", [True, False])
def test_a_request_waits_for_its_withdrawal_and_takes_nothing(stage: Stage, n: int, commits: bool) -> None:
    paid = record_transfer(stage.gate, n)

    found = stage.play(withdraws(n), requests(n), paid, waits=True, commits=commits)

    assert found == ("0 rows" if commits else "1 rows")
    assert told(stage, n) == [(1000, "completed" if commits else "reversal_pending", None)]


@pytest.mark.parametrize("commits", [True, False])
def test_a_withdrawal_waits_for_the_outcome_and_gives_back_what_it_did(stage: Stage, n: int, commits: bool) -> None:
    leased = claimed_call(stage.gate, n)

    found = stage.play(reports, withdraws(n), leased, waits=True, commits=commits)

    assert found == ("2 rows" if commits else "1 rows")
    assert told(stage, n) == (GIVEN_BACK if commits else [(1000, "reversal_pending", None)])


@pytest.mark.parametrize("commits", [True, False])
def test_an_outcome_waits_for_the_withdrawal_and_is_given_back_by_it(stage: Stage, n: int, commits: bool) -> None:
    leased = claimed_call(stage.gate, n)

    found = stage.play(withdraws(n), reports, leased, waits=True, commits=commits)

    assert found == "applied"
    assert told(stage, n) == (GIVEN_BACK if commits else GIVEN_BACK[:1])


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize(("act", "status"), [(records, "completed"), (creates, "pending")], ids=["recorded", "created"])
def test_a_newborn_waits_for_the_withdrawal_and_is_not_taken(
    stage: Stage, n: int, act: type, status: str, commits: bool
) -> None:
    due = refunded_transfer(stage.gate, n)

    found = stage.play(withdraws(n), act(n), due, waits=True, commits=commits)

    taken = {"completed": "reversal_pending", "pending": "permanently_failed"}
    assert found == (status if commits else taken[status])


@pytest.mark.parametrize("commits", [True, False])
def test_a_withdrawal_waits_for_the_newborn_and_gives_it_up_as_well(stage: Stage, n: int, commits: bool) -> None:
    due = refunded_transfer(stage.gate, n)

    found = stage.play(records(n), withdraws(n), due, waits=True, commits=commits)

    assert found == ("4 rows" if commits else "2 rows")
    assert sum(chapter[1] == "completed" for chapter in told(stage, n)) == (2 if commits else 1)


@pytest.mark.parametrize("commits", [True, False])
def test_of_two_withdrawals_at_once_one_gives_back(stage: Stage, n: int, commits: bool) -> None:
    leased = claimed_call(stage.gate, n)
    record_one(stage.gate, success(leased))

    assert stage.play(withdraws(n), withdraws(n), leased, waits=True, commits=commits) == "2 rows"

    assert told(stage, n) == GIVEN_BACK


def test_a_claim_waits_for_no_withdrawal_and_gets_nothing_of_it(stage: Stage, n: int) -> None:
    due = refunded_transfer(stage.gate, n)

    assert stage.play(withdraws(n), claims, due, waits=False, commits=True) == "0 calls"

    assert claims(stage.gate, due) == "0 calls"


def test_two_who_give_one_id_to_two_rows_wait_for_each_other(stage: Stage, n: int) -> None:
    first = record_transfer(stage.gate, n, p_stripe_transfer_id=None)
    second = record_transfer(stage.gate, n + 1, p_stripe_transfer_id=None)

    def gives_to(row_id: int) -> Act:
        said = {"p_reason": "found it", "p_stripe_transfer_id": f"tr_found{n}"}
        return lambda db, _: str(call(db, "reopen", p_id=row_id, **said)[0]["status"])

    assert stage.play(gives_to(first["id"]), gives_to(second["id"]), first, waits=True, commits=True) == "ST003"
