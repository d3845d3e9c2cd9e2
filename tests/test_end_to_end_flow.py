"""How runners get through their work, over HTTP: together, past what is slow, around pauses, through a refused key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, row, rows, value
from tests.support.orders import (
    attempts_of,
    open_rows,
    pay_sellers,
    refund,
    refunded,
    set_delays,
    statuses,
    transfer_of,
)
from tests.support.runners import StartRunner, runners, wait_until


@pytest.fixture
def start_runner(dsn: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(dsn, simulator.base_url, tmp_path) as start:
        yield start


def reversal_calls(simulator: SimulatorClient) -> int:
    return len(simulator.requests(method="POST"))


def wait_until_it_finds_no_work(db: Database, worker: str) -> None:
    """Wake a runner, and return when it asks how long it may sleep: it has claimed, and got nothing."""
    woken_at = value(db, "select clock_timestamp()")
    rows(db, "select pg_notify('seller_transfers_due', '')")
    wait_until(
        lambda: rows(
            db,
            "select from pg_stat_activity where application_name = %(name)s and state = 'idle'"
            " and query like '%%next_due_in%%' and query_start > %(woken_at)s",
            name=f"seller-transfers claims {worker}",
            woken_at=woken_at,
        ),
        f"{worker} finds no work",
    )


def test_two_runners_share_the_work_and_no_call_is_made_twice(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    names = [f"n{n}" for n in range(60)]
    transfers = pay_sellers(db, simulator, *names)
    simulator.add_fault("delay", seconds=0.05, match={"method": "POST"}, times=None)
    for worker in ("blue", "green"):
        start_runner(worker, slots=4)

    refund(db, *names)
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    assert sorted(entry.transfer or "" for entry in simulator.ledger(kind="reversal")) == sorted(transfers)
    assert reversal_calls(simulator) == 60
    shares = rows(
        db, "select worker, count(*) as calls from marketplace.transfer_attempts group by worker order by worker"
    )
    assert [share["worker"] for share in shares] == ["blue", "green"]
    assert min(share["calls"] for share in shares) >= 10


def test_one_slow_call_delays_none_of_a_thousand_fast_ones(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    fast = [f"fast{n}" for n in range(1000)]
    slow_transfer, *fast_transfers = pay_sellers(db, simulator, "slow", *fast)
    simulator.add_fault("hold", name="slow", match={"method": "POST", "transfer": slow_transfer})
    start_runner(slots=8, lease_seconds=120, call_deadline_seconds=60)
    refund(db, "slow")
    simulator.wait_for_held("slow")

    refund(db, *fast)

    # However slow it is, and not for three seconds only: it is under way for as long as any other is not done.
    wait_until(lambda: open_rows(db) == 1, "all others are reversed while it is under way", within_seconds=40)
    assert len(simulator.held("slow")) == 1
    simulator.release("slow")
    wait_until(lambda: open_rows(db) == 0, "the slow one is reversed too")
    *before, last = [str(entry.transfer) for entry in simulator.ledger(kind="reversal")]
    assert (sorted(before), last) == (sorted(fast_transfers), slow_transfer)


def test_a_hundred_bodies_that_hang_do_not_stop_the_next_call(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    hanging = [f"n{n}" for n in range(100)]
    set_delays(db, "unknown", "1 h")
    simulator.add_fault("hang_body", match={"method": "POST"}, times=100)
    refunded(db, simulator, *hanging)
    start_runner(slots=8, call_deadline_seconds=0.15)
    wait_until(
        lambda: value(db, "select count(*) from marketplace.transfer_attempts where verdict = 'unknown'") == 100,
        "a hundred calls have hung",
    )

    refunded(db, simulator, "next")

    wait_until(lambda: statuses(db, "next") == ["reversed"], "the next call is made")
    assert open_rows(db) == 100


def test_a_pause_by_a_person_stops_calls_until_it_is_lifted(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    start_runner(poll_seconds=300)
    refunded(db, simulator, "before")
    wait_until(lambda: statuses(db, "before") == ["reversed"], "work goes on before the pause")

    rows(db, "select * from marketplace.pause_stripe_calls('the bank is asking')")
    refunded(db, simulator, "during")
    for _ in range(2):  # the first time, it may have asked just before
        wait_until_it_finds_no_work(db, "blue")
    assert (statuses(db, "during"), reversal_calls(simulator)) == (["reversal_pending"], 1)

    rows(db, "select * from marketplace.resume_stripe_calls('all is well')")
    wait_until(lambda: statuses(db, "during") == ["reversed"], "work goes on after the pause")


def test_a_revoked_key_harms_no_row_and_work_goes_on_when_it_is_restored(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    names = [f"n{n}" for n in range(20)]
    pay_sellers(db, simulator, *names)
    set_delays(db, "configuration", "200 ms")
    start_runner(slots=4)
    refunded(db, simulator, "before")
    wait_until(lambda: statuses(db, "before") == ["reversed"], "work goes on before the key is revoked")

    simulator.revoke_key()
    refund(db, *names)
    wait_until(
        lambda: rows(db, "select from marketplace.stripe_control where paused_by = 'verdict' and probe_count >= 3"),
        "calls are paused, and three trial calls have shown that they stay so",
    )
    control = row(db, "select * from marketplace.stripe_control")
    assert "Expired API Key provided" in control["pause_reason"]
    # As many calls as there are slots could be under way when the first was refused; after that only trial calls.
    assert (
        1
        <= len([call for call in simulator.requests(method="POST") if call.status == 401])
        <= 4 + control["probe_count"] + 1
    )
    for name in names:
        held = transfer_of(db, name)
        assert (held["status"], held["retry_count"], held["call_generation"]) == ("reversal_pending", 0, 1)
        assert not held["call_unknown"]

    simulator.restore_key()
    wait_until(lambda: open_rows(db) == 0, "all is done without a person")
    assert statuses(db, *names) == ["reversed"] * 20
    assert len(simulator.ledger(kind="reversal")) == 21
    assert value(db, "select count(*) from marketplace.stripe_control where paused_at is null") == 1
    assert {attempt["verdict"] for name in names for attempt in attempts_of(db, name)} == {"configuration", "succeeded"}
