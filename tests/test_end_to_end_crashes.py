"""What dies in the middle, and what comes of it: runners, connections, the database. Never a second reversal."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.databases import SETTINGS, Database, ServerAddress, open_database, rows, value
from tests.support.migrations import migrate_database
from tests.support.orders import (
    attempts_of,
    calls_for,
    open_rows,
    pay_sellers,
    refund,
    refunded,
    reversals_of,
    set_delays,
    statuses,
    transfer_of,
)
from tests.support.runners import StartRunner, runners, wait_until

POSTS = {"method": "POST"}


@pytest.fixture
def start_runner(dsn: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(dsn, simulator.base_url, tmp_path) as start:
        yield start


@pytest.fixture
def line(server_address: ServerAddress) -> Iterator[CuttingProxy]:
    with cutting_proxy(server_address) as proxy:
        yield proxy


def attempt_kinds(db: Database, name: str) -> list[str]:
    return [attempt["kind"] for attempt in attempts_of(db, name)]


def test_what_a_killed_runner_was_doing_is_finished_by_another_and_reversed_once(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    moments = ("before", "after")
    transfers = pay_sellers(db, simulator, *moments)
    set_delays(db, "throttled", "100 ms")
    set_delays(db, "unknown", "100 ms")
    for moment, transfer in zip(moments, transfers, strict=True):
        simulator.add_fault("hold", name=moment, when=moment, match={**POSTS, "transfer": transfer})
    killed = start_runner("killed", lease_seconds=1.5, call_deadline_seconds=1)
    refund(db, *moments)
    for moment in moments:
        simulator.wait_for_held(moment)

    killed.send(signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    start_runner("other", lease_seconds=1.5, call_deadline_seconds=1)
    # Its requests live on at Stripe, and one is executed only now, while the other runner is at it too.
    wait_until(lambda: "call" in attempt_kinds(db, "before"), "the other runner has been told that the key is in use")
    simulator.release()
    wait_until(lambda: open_rows(db) == 0, "the other runner has finished both")

    for moment, transfer in zip(moments, transfers, strict=True):
        (reversal,) = reversals_of(simulator, transfer)
        assert len({call.idempotency_key for call in calls_for(simulator, transfer)}) == 1
        held = transfer_of(db, moment)
        assert (held["status"], held["stripe_reversal_id"]) == ("reversed", reversal.reversal)
        first, *_, last = attempts_of(db, moment)
        assert (first["kind"], first["worker"], first["verdict"]) == ("lost_lease", "killed", "unknown")
        assert (last["kind"], last["worker"], last["verdict"]) == ("call", "other", "succeeded")


def test_a_stopped_runner_finishes_its_calls_records_them_and_claims_no_more(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    simulator.add_fault("hold", name="held", match=POSTS, times=2)
    runner = start_runner(slots=3)
    refunded(db, simulator, "one", "two")
    simulator.wait_for_held("held", 2)

    runner.send(signal.SIGTERM)
    runner.wait_for("stopping: finishing calls in flight")
    refunded(db, simulator, "toolate")
    assert runner.process.poll() is None
    simulator.release("held")

    assert runner.exit_code() == 0
    assert runner.log()[-1]["event"] == "stopped"
    assert statuses(db, "one", "two") == ["reversed", "reversed"]
    assert [attempt_kinds(db, name) for name in ("one", "two", "toolate")] == [["call"], ["call"], []]
    assert transfer_of(db, "toolate")["lease_token"] is None


def test_a_second_signal_ends_a_runner_at_once_and_the_lease_stays_to_lapse(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    simulator.add_fault("hold", name="held", match=POSTS)
    runner = start_runner()
    refunded(db, simulator, "one")
    simulator.wait_for_held("held")

    runner.send(signal.SIGINT)
    runner.wait_for("stopping: finishing calls in flight")
    runner.send(signal.SIGTERM)

    assert runner.exit_code(within_seconds=5) == 128 + signal.SIGTERM
    held = transfer_of(db, "one")
    assert (held["status"], held["leased_by"]) == ("reversal_pending", "blue")
    assert attempt_kinds(db, "one") == []


def test_an_idle_runner_stops_at_once(start_runner: StartRunner) -> None:
    runner = start_runner(poll_seconds=300)

    runner.send(signal.SIGTERM)

    assert runner.exit_code(within_seconds=5) == 0


def test_a_report_whose_answer_was_lost_is_sent_again_and_counts_once(
    db: Database,
    dsn: str,
    line: CuttingProxy,
    server_address: ServerAddress,
    simulator: SimulatorClient,
    tmp_path: Path,
) -> None:
    with runners(line.dsn(server_address, dbname_of(dsn)), simulator.base_url, tmp_path) as start_runner:
        runner = start_runner()
        line.cut("record_reversal_outcomes")
        (transfer,) = pay_sellers(db, simulator, "one")
        refund(db, "one")
        runner.wait_for("outcome")

        assert line.cuts == 1
        (outcome,) = runner.log("outcome")
        assert (outcome["result"], outcome["verdict"], outcome["status"]) == (
            "already_recorded",
            "succeeded",
            "reversed",
        )
        runner.wait_for("reporting works again")
        assert [entry["event"] for entry in runner.log() if "reporting" in entry["event"]] == [
            "reporting fails",
            "reporting works again",
        ]
    assert (len(calls_for(simulator, transfer)), attempt_kinds(db, "one")) == (1, ["call"])
    assert statuses(db, "one") == ["reversed"]


def test_a_claim_whose_answer_was_lost_is_made_again_when_its_lease_has_lapsed(
    db: Database,
    dsn: str,
    line: CuttingProxy,
    server_address: ServerAddress,
    simulator: SimulatorClient,
    tmp_path: Path,
) -> None:
    (transfer,) = pay_sellers(db, simulator, "one")
    with runners(line.dsn(server_address, dbname_of(dsn)), simulator.base_url, tmp_path) as start_runner:
        runner = start_runner(lease_seconds=1, call_deadline_seconds=0.5, poll_seconds=300)
        refund_while_the_next_claim_is_cut(db, line)
        runner.wait_for("outcome", count=2)

    assert line.cuts == 1
    # Nobody called, but the database cannot know that: a look-up, then the call.
    assert attempt_kinds(db, "one") == ["lost_lease", "call", "call"]
    assert (len(calls_for(simulator, transfer)), statuses(db, "one")) == (1, ["reversed"])


def dbname_of(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")


def refund_while_the_next_claim_is_cut(db: Database, line: CuttingProxy) -> None:
    """Wait out the claims of a runner that has just begun: the one that is cut is to be the one that finds the row."""
    claims = "select from pg_stat_activity where application_name like 'seller-transfers claims %%'"
    wait_until(lambda: rows(db, f"{claims} and query like '%%next_due_in%%'"), "the runner sleeps")
    line.cut("claim_due_reversals")
    refund(db, "one")


def test_connections_that_are_terminated_are_made_anew(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    runner = start_runner(slots=2, poll_seconds=300)
    refunded(db, simulator, "one")
    runner.wait_for("outcome")
    simulator.add_fault("hold", name="held", match=POSTS, times=2)
    refunded(db, simulator, "two", "three")
    simulator.wait_for_held("held", 2)

    ended = rows(
        db,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'seller-transfers %% blue'",
    )
    simulator.release("held", 1)
    runner.wait_for("outcome", count=2)
    runner.wait_for("listening works again")
    simulator.release("held")
    refunded(db, simulator, "four")
    wait_until(lambda: open_rows(db) == 0, "all is reversed")

    assert len(ended) == 3  # it claims, reports and listens
    assert [attempt_kinds(db, name) for name in ("one", "two", "three", "four")] == [["call"]] * 4
    assert len(simulator.ledger(kind="reversal")) == 4


def test_a_database_that_crashes_and_comes_back_is_waited_for_and_nothing_is_doubled(
    postgres_bin: Path | None, simulator: SimulatorClient, tmp_path: Path
) -> None:
    # What is committed must outlive the crash, as it does where there is real money.
    with EmbeddedPostgres(bindir=postgres_bin, settings={**SETTINGS, "synchronous_commit": "on"}) as server:
        dsn = server.dsn()
        migrate_database(dsn)
        with runners(dsn, simulator.base_url, tmp_path) as start_runner:
            runner = start_runner(slots=4)

            def release_when_it_listens_no_more() -> None:
                runner.wait_for("listening fails")
                simulator.release("held")

            simulator.add_fault("hold", name="held", match=POSTS, times=4)
            with closing(open_database(dsn)) as db:
                refunded(db, simulator, "a", "b", "c", "d", "e", "f")
                simulator.wait_for_held("held", 4)
            with ThreadPoolExecutor(1) as pool:
                # Stripe's answers come in while there is no database to report them to.
                answers = pool.submit(release_when_it_listens_no_more)
                server.restart(immediate=True)
                answers.result()
            with closing(open_database(dsn)) as db:
                wait_until(lambda: open_rows(db) == 0, "all is reversed")

                assert statuses(db, "a", "b", "c", "d", "e", "f") == ["reversed"] * 6
                assert value(db, "select count(*) from marketplace.transfer_attempts where kind <> 'call'") == 0
            assert runner.log("listening fails")
            runner.send(signal.SIGTERM)
            assert runner.exit_code() == 0
    assert len(simulator.ledger(kind="reversal")) == 6
    assert len(simulator.requests(method="POST")) == 6
