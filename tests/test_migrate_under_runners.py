"""Runners whose database is migrated under them: they go on, or finish what they have begun and say why they end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.migrate import migrate
from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, value
from tests.support.orders import pay_sellers, refund, refunded, statuses
from tests.support.raw_transfers import run
from tests.support.runners import StartRunner, runners, wait_until

RAISED = """
create or replace function marketplace._oldest_runner() returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$ begin return '999.0.0'; end $$
"""


@pytest.fixture
def start_runner(dsn: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(dsn, simulator.base_url, tmp_path) as start:
        yield start


def hold_the_first_call(db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, "held")
    simulator.add_fault("hold", name="first", match={"method": "POST"})
    refund(db, "held")
    simulator.wait_for_held("first")


def test_a_runner_goes_on_when_functions_are_loaded_under_it(
    db: Database, dsn: str, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    runner = start_runner()
    hold_the_first_call(db, simulator)
    loaded_at = value(db, "select loaded_at from marketplace.schema_release")

    run(db, "delete from _yoyo_migration where migration_id >= '0038'")
    assert migrate(dsn).applied

    assert value(db, "select loaded_at from marketplace.schema_release") > loaded_at
    simulator.release("first")
    refunded(db, simulator, "later")
    wait_until(lambda: statuses(db, "held") == statuses(db, "later") == ["reversed"], "both are reversed")
    assert len(simulator.ledger(kind="reversal")) == 2
    assert runner.process.poll() is None


def test_a_runner_too_old_for_what_was_loaded_reports_what_it_has_begun_and_ends_with_4(
    db: Database, simulator: SimulatorClient, start_runner: StartRunner
) -> None:
    runner = start_runner(poll_seconds=0.1)
    hold_the_first_call(db, simulator)

    run(db, RAISED)
    runner.wait_for("stopping: finishing calls in flight")
    refunded(db, simulator, "later")
    simulator.release("first")

    assert runner.exit_code() == 4
    assert statuses(db, "held") == ["reversed"]
    assert statuses(db, "later") == ["reversal_pending"]
    last = runner.log_file.read_text().splitlines()[-1]
    assert last.startswith(
        "seller-transfers: the runner is of release 0.1.0, this database serves runners from 999.0.0"
    )
