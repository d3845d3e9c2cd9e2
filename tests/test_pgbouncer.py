"""Behind PgBouncer in transaction mode: the same promise. What needs a session of its own says so or does without."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner, Result

from runner.cli import main
from runner.migrate import MigrationRefused, migrate
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.databases import Database, ServerAddress, open_session, rows, value
from tests.support.events import by_events
from tests.support.orders import open_rows, order_payouts, refunded, set_delays, statuses
from tests.support.pgbouncer import PROGRAM, PgBouncer, pgbouncer
from tests.support.runners import StartRunner, runners, wait_until
from tests.support.webhooks import PATH, SECRET, endpoint

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)

POOL_SIZE = 3
BUYERS = [f"buyer{n:02}" for n in range(24)]


@pytest.fixture
def pool(server_address: ServerAddress) -> Iterator[PgBouncer]:
    with pgbouncer(server_address, pool_size=POOL_SIZE) as bouncer:
        yield bouncer


@pytest.fixture
def pooled(pool: PgBouncer, db: Database) -> str:
    """Connection URI of the test's database, through the pool."""
    return pool.dsn(db.info.dbname)


@pytest.fixture
def start_runner(pooled: str, simulator: SimulatorClient, tmp_path: Path) -> Iterator[StartRunner]:
    with runners(pooled, simulator.base_url, tmp_path) as start:
        yield start


def command(dsn: str, *arguments: str, **settings: str) -> Result:
    """What `seller-transfers` says on this database."""
    environment = {"DATABASE_URL": dsn, "STRIPE_API_KEY": TEST_KEY, **settings}
    return CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)


def pooled_backends(db: Database) -> list[int]:
    """The server's processes that the pool has on the test's database."""
    found = rows(db, "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
    return [each["pid"] for each in found]


def assert_sessions_are_clean(pooled: str) -> None:
    """Nothing was left behind in any session of the pool: no channel, no setting, no lock."""
    with ExitStack() as stack:
        seen = set()
        for _ in range(POOL_SIZE):
            session = stack.enter_context(closing(open_session(pooled, autocommit=False, prepare_threshold=None)))
            seen.add(value(session, "select pg_backend_pid()"))
            assert rows(session, "select pg_listening_channels()") == []
            settings = (
                "select name from pg_settings where source = 'session' and name !~ '^(application_name|Date|Time)'"
            )
            assert [each["name"] for each in rows(session, settings)] in ([], ["client_encoding"])
            assert rows(session, "select from pg_locks where locktype = 'advisory'") == []
        assert len(seen) == POOL_SIZE


def test_runners_and_webhook_pay_and_take_back_each_order_once_while_pool_and_server_are_cut_off(
    db: Database, pool: PgBouncer, pooled: str, simulator: SimulatorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    by_events(db)
    for verdict in ("unknown", "throttled"):
        set_delays(db, verdict, "100 ms")
    blue, green = (
        start_runner(worker, wait=False, lease_seconds=4, call_deadline_seconds=3, poll_seconds=0.3)
        for worker in ("blue", "green")
    )
    with endpoint(pooled, tmp_path) as at:
        simulator.add_endpoint(f"http://127.0.0.1:{at.port}{PATH}", SECRET)
        charges = {buyer: simulator.create_charge(1000, "usd") for buyer in BUYERS}
        simulator.add_fault("hold", name="paying", match={"method": "POST", "path": "/v1/transfers"}, times=4)
        order_payouts(db, simulator, *BUYERS, amount=900, charges=charges)
        simulator.wait_for_held("paying", 4)
        # Not while the pool and its server are there: that it cannot listen is no failure.
        for runner in (blue, green):
            assert not runner.log("listening fails")
        # Server processes die under the pool, with Stripe's answers still to come.
        rows(db, "select pg_terminate_backend(pid) from unnest(%(pids)s::int[]) as pid", pids=pooled_backends(db))
        simulator.release("paying")
        wait_until(lambda: set(statuses(db, *BUYERS)) == {"completed"}, "all are paid")

        simulator.add_fault("hold", name="back", match={"method": "POST"}, times=4)
        for charge in charges.values():
            simulator.refund(charge)
        simulator.wait_for_held("back", 4)
        pool.stop()
        simulator.release("back")
        pool.start()
        wait_until(lambda: set(statuses(db, *BUYERS)) == {"reversed"}, "all is taken back")
        simulator.wait_until_delivered()

    assert sorted(entry.destination or "" for entry in simulator.ledger(kind="transfer")) == [
        f"acct_{buyer}" for buyer in BUYERS
    ]
    assert [entry.amount for entry in simulator.ledger(kind="reversal")] == [900] * len(BUYERS)
    assert {sums["usd"] for sums in simulator.sent_minus_reversed().values()} == {0}
    for runner in (blue, green):
        assert len(runner.log("not listening, polling")) >= 1
    # The pool gives each client its name for the time of its transaction: so the log still says who it was.
    changed = rows(
        db,
        "select distinct application_name as name from marketplace.transfer_status_log"
        " where from_status = 'reversal_pending' and to_status = 'reversed'",
    )
    names = {each["name"] for each in changed}
    assert names
    assert names <= {f"seller-transfers reports {worker}" for worker in ("blue", "green")}
    assert_sessions_are_clean(pooled)


def test_status_and_catch_up_work_behind_it(db: Database, pooled: str, simulator: SimulatorClient) -> None:
    by_events(db)
    simulator.create_charge(1000, "usd")

    caught_up = command(pooled, "catch-up", "--since", "1h", SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url)
    shown = command(pooled, "status")

    assert (caught_up.exit_code, shown.exit_code) == (0, 0), caught_up.output + shown.output
    assert rows(db, "select type from marketplace.stripe_events where state = 'acted'") == [
        {"type": "charge.succeeded"}
    ]
    assert_sessions_are_clean(pooled)


def test_migrate_is_refused_before_it_leaves_anything_behind(db: Database, pooled: str) -> None:
    refused = command(pooled, "migrate")

    assert refused.exit_code == 4
    assert "migrate needs a direct connection" in refused.stderr
    assert_sessions_are_clean(pooled)


def test_in_session_mode_migrate_works_and_a_runner_listens(
    server_address: ServerAddress, empty_dsn: str, simulator: SimulatorClient, tmp_path: Path
) -> None:
    with (
        pgbouncer(server_address, pool_mode="session", pool_size=8) as pool,
        closing(open_session(empty_dsn)) as db,
    ):
        dsn = pool.dsn(db.info.dbname)
        migrate(dsn)
        with runners(dsn, simulator.base_url, tmp_path) as start_runner:
            start_runner(poll_seconds=300)
            refunded(db, simulator, "one")
            wait_until(lambda: open_rows(db) == 0, "it is reversed without a poll")


def test_a_busy_pool_that_takes_its_sessions_in_turn_is_recognised_too(
    server_address: ServerAddress, db: Database
) -> None:
    with pgbouncer(server_address, pool_size=2, options=["server_round_robin = 1"]) as pool:
        dsn = pool.dsn(db.info.dbname)
        with (
            closing(open_session(dsn, autocommit=False)) as one,
            closing(open_session(dsn, autocommit=False)) as two,
        ):
            # Now the pool has both of its sessions.
            assert value(one, "select pg_backend_pid()") != value(two, "select pg_backend_pid()")

        with pytest.raises(MigrationRefused, match="direct connection"):
            migrate(dsn)


def test_options_in_the_url_are_refused_by_the_pool_and_the_line_says_it(pooled: str) -> None:
    refused = command(f"{pooled}&options={quote('-c statement_timeout=30s')}", "status")

    assert refused.exit_code == 3
    assert "unsupported startup parameter: options" in refused.stderr


def test_a_timeout_on_the_login_role_holds_behind_the_pool(
    db: Database, pool: PgBouncer, server_address: ServerAddress
) -> None:
    # The pool logs in as the role, so what is set on it is set in every session.
    db.execute(f"alter role {server_address.user} in database {db.info.dbname} set statement_timeout = '50ms'".encode())

    with closing(open_session(pool.dsn(db.info.dbname))) as session, pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("select pg_sleep(10)")
