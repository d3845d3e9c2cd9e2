"""How runners get through their work, over HTTP: together, past what is slow, around pauses, through a refused key."""

import signal
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


def test_one_slow_call_delays_none_of_three_hundred_fast_ones(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    fast = [f"fast{n}" for n in range(300)]
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
    started = [start_runner(worker, slots=4) for worker in ("blue", "green")]
    refunded(db, simulator, "before")
    wait_until(lambda: statuses(db, "before") == ["reversed"], "work goes on before the key is revoked")

    simulator.revoke_key()
    refund(db, *names)
    for runner in started:
        # It said so once, and tries on.
        runner.wait_for("cannot register; trying again until it works")
    refused = len(simulator.requests(method="GET", path="/v1/account"))
    wait_until(lambda: len(simulator.requests(method="GET", path="/v1/account")) >= refused + 4, "both try on")
    control = row(db, "select * from marketplace.stripe_control")
    assert control["paused_by"] == "verdict"
    assert "Expired API Key provided" in control["pause_reason"]
    # As many calls as there are slots could be under way when the first was refused; after that nobody may claim.
    assert 1 <= len([call for call in simulator.requests(method="POST") if call.status == 401]) <= 2 * 4
    for name in names:
        held = transfer_of(db, name)
        assert (held["status"], held["retry_count"], held["call_generation"]) == ("reversal_pending", 0, 1)
        assert not held["call_unknown"]

    simulator.restore_key()
    wait_until(lambda: open_rows(db) == 0, "all is done without a person")
    for runner in started:
        runner.wait_for("registered again")
        assert len(runner.log("cannot register; trying again until it works")) == 1
        assert len(runner.log("registered again")) == 1
    assert statuses(db, *names) == ["reversed"] * 20
    assert len(simulator.ledger(kind="reversal")) == 21
    assert value(db, "select count(*) from marketplace.stripe_control where paused_at is null") == 1
    assert {attempt["verdict"] for name in names for attempt in attempts_of(db, name)} == {"configuration", "succeeded"}


def test_a_runner_with_a_new_key_goes_on_at_once_while_the_one_with_the_old_key_waits(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    new_key = "sk_test_rolled0123456789"
    simulator.set_key(new_key)
    set_delays(db, "configuration", "1 h")  # a trial call by the clock would come too late for this test
    old = start_runner("old")
    simulator.revoke_key()
    refunded(db, simulator, "one", "two", "three")
    old.wait_for("cannot register; trying again until it works")

    start_runner("new", key=new_key)
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    assert statuses(db, "one", "two", "three") == ["reversed"] * 3
    ended = row(db, "select * from marketplace.runners where ended_at is not null")
    assert ended["worker"] == "old"
    assert ended["ended_reason"].startswith("Stripe refused its key: Expired API Key provided")
    old.send(signal.SIGTERM)
    assert old.exit_code(within_seconds=5) == 0


def test_a_registration_that_a_failover_lost_is_made_again(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    start_runner(poll_seconds=300)
    db.execute("delete from marketplace.runners")

    refunded(db, simulator, "one")

    wait_until(lambda: statuses(db, "one") == ["reversed"], "work goes on")
    assert value(db, "select count(*) from marketplace.runners where worker = 'blue'") == 1


def test_runners_together_keep_to_the_rate_and_stripe_never_says_that_it_is_too_much(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    names = [f"n{n}" for n in range(60)]
    pay_sellers(db, simulator, *names)
    for worker in ("blue", "green", "red"):
        start_runner(worker, poll_seconds=300)
    rows(db, "select * from marketplace.set_stripe_rate(40, 'a test', 5)")
    # Room for what a busy machine bunches on the way.
    simulator.set_limits(50, burst=20)

    refund(db, *names)
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    assert [call.status for call in simulator.requests(method="POST")] == [200] * 60
    # Five at once, then forty a second: by the clock of whoever hands out the calls.
    seconds = value(
        db, "select extract(epoch from max(started_at) - min(started_at)) from marketplace.transfer_attempts"
    )
    assert seconds >= (60 - 5) / 40
    shares = rows(db, "select count(*) as calls from marketplace.transfer_attempts group by worker")
    assert len(shares) == 3
    assert min(share["calls"] for share in shares) >= 5


def test_a_limit_lower_than_the_rate_is_found_out_and_all_is_done(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    names = [f"n{n}" for n in range(30)]
    pay_sellers(db, simulator, *names)
    set_delays(db, "throttled", "300 ms")
    start_runner(slots=16)
    rows(db, "select * from marketplace.set_stripe_rate(100, 'a test', 20)")
    simulator.set_limits(20, burst=5)

    refund(db, *names)
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    assert statuses(db, *names) == ["reversed"] * 30
    assert value(db, "select max(retry_count) from marketplace.seller_transfers") == 0
    cuts = rows(db, "select reason from marketplace.stripe_control_log where change = 'rate turned down' order by id")
    assert cuts
    assert cuts[0]["reason"].startswith("from 100 to 50 calls a second: Stripe answered the call for transfer ")
