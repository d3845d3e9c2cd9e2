"""The command line: what a person sees, and the exit codes that scripts branch on."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli import main
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.databases import Connect, Database, ServerAddress, rows, value
from tests.support.orders import pay_sellers, refund
from tests.support.runners import REPOSITORY, wait_until
from tests.support.webhooks import SECRET

DATABASE_PASSWORD = "hunter2hunter2"
NOWHERE = f"postgresql://app:{DATABASE_PASSWORD}@127.0.0.1:1/shop"


def command(*arguments: str, **environment: str) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)
    assert DATABASE_PASSWORD not in result.output
    return result


def process(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a process of its own; the environment is put together as people do."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    for output in (done.stdout, done.stderr):
        assert "Traceback" not in output
        assert DATABASE_PASSWORD not in output
        assert environment.get("STRIPE_API_KEY", "sk_test_none") not in output
        assert environment.get("STRIPE_WEBHOOK_SECRET", "whsec_none") not in output
    return done


def only_line(text: str) -> str:
    """The text, which is one line and says who speaks."""
    (line,) = text.splitlines()
    assert line.startswith("seller-transfers: ")
    return line.removeprefix("seller-transfers: ")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_the_commands_the_settings_and_every_exit_code(option: str) -> None:
    shown = command(option)

    assert shown.exit_code == 0
    commands = ("migrate", "run", "status", "demo", "webhook", "catch-up", "reconcile")
    for word in (*commands, "DATABASE_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "SELLER_TRANSFERS_"):
        assert word in shown.output
    for code in range(6):
        assert f" {code} " in shown.output.replace("\n", " ")


@pytest.mark.parametrize("name", ["migrate", "run", "status", "demo", "webhook", "catch-up", "reconcile"])
def test_every_command_says_what_it_does(name: str) -> None:
    shown = command(name, "--help")

    assert shown.exit_code == 0
    first_line = shown.output.split("\n\n")[1].strip()
    assert first_line.endswith(".")


def test_a_runner_can_be_for_one_kind_of_work() -> None:
    assert "--only [reversals|transfers]" in command("run", "--help").output

    result = command("run", "--only", "reversals", DATABASE_URL="")

    assert (result.exit_code, "DATABASE_URL" in result.stderr) == (2, True)


def test_the_version_is_told() -> None:
    assert command("--version").output.startswith("seller-transfers, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run", "now"],
        ["run", "--slots", "3"],
        ["run", "--only", "refunds"],
        ["demo", "--orders", "0"],
        ["catch-up"],
        ["webhook", "--port", "80"],
    ],
)
def test_bad_usage_is_2(arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["migrate", "status", "run", "webhook"])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "mysql://app:hunter2hunter2@db/shop",
        "postgresql://app:hunter2hunter2%zz@db/shop",
        "postgresql://app:p@hunter2hunter2@127.0.0.1:1/shop",
    ],
)
def test_a_missing_or_malformed_database_is_one_line_and_2(name: str, url: str) -> None:
    result = command(name, DATABASE_URL=url, STRIPE_API_KEY=TEST_KEY, STRIPE_WEBHOOK_SECRET=SECRET)

    assert (result.exit_code, result.stdout) == (2, "")
    assert only_line(result.stderr).startswith("DATABASE_URL: it ")


@pytest.mark.parametrize("name", ["run", "catch-up --since 1h", "reconcile"])
@pytest.mark.parametrize("key", ["", "hunter2hunter2", "pk_test_hunter2hunter2", "sk_test_hunter2 hunter2"])
def test_a_missing_or_malformed_key_is_one_line_and_2(name: str, key: str) -> None:
    result = command(*name.split(), DATABASE_URL=NOWHERE, STRIPE_API_KEY=key)

    assert (result.exit_code, result.stdout) == (2, "")
    assert only_line(result.stderr).startswith("STRIPE_API_KEY: it ")


@pytest.mark.parametrize("secret", ["", "hunter2hunter2", f"{SECRET},hunter2hunter2", f"{SECRET} {SECRET}"])
def test_a_missing_or_malformed_webhook_secret_is_one_line_and_2(secret: str) -> None:
    result = command("webhook", DATABASE_URL=NOWHERE, STRIPE_WEBHOOK_SECRET=secret)

    assert (result.exit_code, result.stdout) == (2, "")
    line = only_line(result.stderr)
    assert line.startswith("STRIPE_WEBHOOK_SECRET: it ")
    assert SECRET not in line
    assert "hunter2" not in line


@pytest.mark.parametrize("path", ["", "stripe", "/stripe events", "/{id}", "/a//b", "/a?b"])
def test_a_path_that_is_none_is_one_line_and_2(path: str) -> None:
    result = command("webhook", "--path", path, DATABASE_URL=NOWHERE, STRIPE_WEBHOOK_SECRET=SECRET)

    assert (result.exit_code, result.stdout) == (2, "")
    assert only_line(result.stderr).startswith("--path: give a path such as /stripe/events")


@pytest.mark.parametrize(
    ("since", "says"), [("31d", "keeps events for 30 days"), ("2026-11-20", "in which time zone?")]
)
def test_a_time_that_stripe_does_not_go_back_to_is_one_line_and_2(since: str, says: str) -> None:
    result = command("catch-up", "--since", since, DATABASE_URL=NOWHERE, STRIPE_API_KEY=TEST_KEY)

    assert (result.exit_code, result.stdout) == (2, "")
    line = only_line(result.stderr)
    assert line.startswith("--since: ")
    assert says in line


def test_every_bad_setting_has_a_line_of_its_own() -> None:
    result = command("run", SELLER_TRANSFERS_SLOTS="many", SELLER_TRANSFERS_LEASE_SECONDS="-1")

    assert result.exit_code == 2
    said = [only_line(line).split(":")[0] for line in result.stderr.splitlines()]
    settings = ["DATABASE_URL", "STRIPE_API_KEY", "SELLER_TRANSFERS_SLOTS", "SELLER_TRANSFERS_LEASE_SECONDS"]
    assert sorted(said) == sorted(settings)


def test_a_call_may_not_outlast_its_lease() -> None:
    ours = {"SELLER_TRANSFERS_LEASE_SECONDS": "10", "SELLER_TRANSFERS_CALL_DEADLINE_SECONDS": "9"}
    result = command("run", DATABASE_URL=NOWHERE, STRIPE_API_KEY=TEST_KEY, **ours)

    assert result.exit_code == 2
    assert "SELLER_TRANSFERS_CALL_DEADLINE_SECONDS" in only_line(result.stderr)


@pytest.mark.parametrize("name", ["migrate", "status", "webhook"])
def test_what_does_not_call_stripe_does_not_ask_for_its_key(name: str) -> None:
    result = command(name, DATABASE_URL=NOWHERE, STRIPE_API_KEY="nonsense", STRIPE_WEBHOOK_SECRET=SECRET)

    assert result.exit_code == 3


@pytest.mark.parametrize("name", ["migrate", "status", "catch-up --since 1h"])
def test_only_the_webhook_asks_for_its_secret(name: str) -> None:
    result = command(*name.split(), DATABASE_URL=NOWHERE, STRIPE_API_KEY=TEST_KEY, STRIPE_WEBHOOK_SECRET="nonsense")

    assert result.exit_code == 3


@pytest.mark.parametrize("name", ["migrate", "status", "run", "webhook"])
@pytest.mark.parametrize("url", [NOWHERE, f"host=/nowhere user=app password={DATABASE_PASSWORD} dbname=shop"])
def test_a_database_that_cannot_be_reached_is_one_line_and_3(name: str, url: str) -> None:
    result = process(name, DATABASE_URL=url, STRIPE_API_KEY=TEST_KEY, STRIPE_WEBHOOK_SECRET=SECRET)

    assert (result.returncode, result.stdout) == (3, "")
    assert only_line(result.stderr).startswith("the database cannot be reached: ")


@pytest.mark.parametrize("name", ["migrate", "status"])
def test_a_database_that_does_not_exist_is_one_line_and_3(name: str, server_address: ServerAddress) -> None:
    result = command(name, DATABASE_URL=server_address.dsn("missing"))

    assert (result.exit_code, result.stdout) == (3, "")
    assert 'database "missing" does not exist' in only_line(result.stderr)


def test_an_unmigrated_database_is_4_and_says_what_to_run(empty_dsn: str) -> None:
    for result in (
        command("status", DATABASE_URL=empty_dsn),
        process("run", DATABASE_URL=empty_dsn, STRIPE_API_KEY=TEST_KEY),
        command("webhook", DATABASE_URL=empty_dsn, STRIPE_WEBHOOK_SECRET=SECRET),
        command("catch-up", "--since", "1h", DATABASE_URL=empty_dsn, STRIPE_API_KEY=TEST_KEY),
    ):
        code = result.exit_code if isinstance(result, Result) else result.returncode
        assert (code, result.stdout) == (4, "")
        assert only_line(result.stderr) == "the database has no schema of this program; run: seller-transfers migrate"


@pytest.mark.parametrize(
    ("changed", "says", "advises"),
    [
        ("migration_head = '0001.create-schema'", "older than this program", "run: seller-transfers migrate"),
        ("migration_head = '9999.fly'", "9999.fly, newer than this program", "install the release that migrated it"),
        ("functions_sha256 = repeat('0', 64)", "are not those of this program", "run: seller-transfers migrate"),
    ],
)
def test_a_schema_of_another_release_is_4_and_says_what_to_do(
    dsn: str, db: Database, changed: str, says: str, advises: str
) -> None:
    db.execute(f"update marketplace.schema_release set {changed}".encode())

    result = command("status", DATABASE_URL=dsn)

    assert (result.exit_code, result.stdout) == (4, "")
    line = only_line(result.stderr)
    assert says in line
    assert line.endswith(advises)


def test_a_runner_does_not_start_on_a_schema_of_another_release(dsn: str, db: Database) -> None:
    db.execute("update marketplace.schema_release set functions_sha256 = repeat('0', 64)")

    result = process("run", DATABASE_URL=dsn, STRIPE_API_KEY=TEST_KEY)

    assert (result.returncode, result.stdout) == (4, "")
    assert "run: seller-transfers migrate" in only_line(result.stderr)


@pytest.mark.parametrize("key", [TEST_KEY, "sk_test_unknown0123456789"])
def test_a_key_that_stripe_refuses_is_one_line_and_5(dsn: str, simulator: SimulatorClient, key: str) -> None:
    simulator.revoke_key()

    result = process("run", DATABASE_URL=dsn, STRIPE_API_KEY=key, SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url)

    assert (result.returncode, result.stdout) == (5, "")
    assert only_line(result.stderr).startswith("Stripe refuses the key: HTTP 401: ")


def test_a_key_of_another_account_than_the_databases_is_one_line_and_5(
    dsn: str, db: Database, simulator: SimulatorClient
) -> None:
    rows(db, "select * from marketplace.register_runner('first', '1.0', 'acct_1Own', false)")

    result = process(
        "run", DATABASE_URL=dsn, STRIPE_API_KEY=TEST_KEY, SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url
    )

    assert (result.returncode, result.stdout) == (5, "")
    line = only_line(result.stderr)
    for words in ("account acct_1SandboxPlatform in test mode", "a key of account acct_1Own in test mode"):
        assert words in line


def test_a_stripe_that_cannot_be_reached_is_waited_for_and_the_wait_can_be_stopped(dsn: str, tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "STRIPE_API_KEY": TEST_KEY,
        "SELLER_TRANSFERS_STRIPE_API_BASE": "http://127.0.0.1:1",
    }
    with log_file.open("wb") as log:
        running = subprocess.Popen([sys.executable, "-m", "runner", "run"], env=environment, cwd=REPOSITORY, stderr=log)
    with running:
        wait_until(lambda: "cannot register" in log_file.read_text() or running.poll() is not None, "it says so")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0

    said = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert [entry["event"] for entry in said] == ["cannot register; trying again until it works", "stopped"]
    assert said[0]["reason"].startswith("Stripe gives no answer: ")


@pytest.mark.parametrize(
    ("host", "says"), [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign requested address")]
)
def test_an_address_that_cannot_be_listened_on_is_one_line_and_2(dsn: str, host: str, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = process(
            "webhook",
            DATABASE_URL=dsn,
            STRIPE_WEBHOOK_SECRET=SECRET,
            SELLER_TRANSFERS_WEBHOOK_HOST=host,
            SELLER_TRANSFERS_WEBHOOK_PORT=str(port),
        )

    assert (result.returncode, result.stdout) == (2, "")
    assert only_line(result.stderr).lower().startswith(f"cannot listen on {host}, port {port}: ")
    assert says.lower() in result.stderr.lower()


def test_a_stripe_that_cannot_be_reached_ends_a_catch_up_with_1(dsn: str) -> None:
    result = command(
        *("catch-up", "--since", "1h"),
        DATABASE_URL=dsn,
        STRIPE_API_KEY=TEST_KEY,
        SELLER_TRANSFERS_STRIPE_API_BASE="http://127.0.0.1:1",
    )

    assert (result.exit_code, result.stdout) == (1, "")
    assert only_line(result.stderr).startswith("Stripe gives no answer: ")


def test_migrate_brings_an_empty_database_up_and_doing_it_again_changes_nothing(empty_dsn: str) -> None:
    first = command("migrate", DATABASE_URL=empty_dsn)
    second = command("migrate", DATABASE_URL=empty_dsn)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (first.stderr, second.stderr) == ("", "")
    assert "applying 0001.create-schema" in first.stdout
    assert "migrations applied; functions loaded; the database is at " in first.stdout
    assert "applying" not in second.stdout
    assert second.stdout.splitlines()[-1].startswith("no migration was pending; functions loaded; ")
    assert command("status", DATABASE_URL=empty_dsn).exit_code == 0


def test_a_dry_run_of_migrate_is_1_if_there_is_something_to_do(empty_dsn: str) -> None:
    before = command("migrate", "--dry-run", DATABASE_URL=empty_dsn)
    command("migrate", DATABASE_URL=empty_dsn)
    after = command("migrate", "--dry-run", DATABASE_URL=empty_dsn)

    assert (before.exit_code, after.exit_code) == (1, 0)
    assert (before.stderr, after.stderr) == ("", "")
    assert "would apply 0006.create-reversal-requests: stops writers of seller_transfers" in before.stdout.splitlines()
    assert after.stdout.splitlines()[0] == "would load functions: the same as the last"
    assert after.stdout.splitlines()[-1].endswith("; nothing was changed")


def test_migrate_says_on_stderr_who_is_in_the_way(dsn: str, connect: Connect) -> None:
    with connect(autocommit=False, application_name="nightly report") as reader:
        rows(reader, "select from marketplace.queue_health_full")
        who = f"blocked by pid {reader.info.backend_pid} (nightly report, idle in transaction, in a transaction for "
        result = command("migrate", "--lock-timeout", "0.3", "--tries", "2", DATABASE_URL=dsn)

    assert (result.exit_code, result.stdout) == (4, "loading functions\n")
    warning, refusal = result.stderr.splitlines()
    assert warning.startswith(
        "warning: loading db/functions: waits for AccessExclusiveLock on marketplace.queue_health_full, "
    )
    assert who in warning
    assert warning.endswith("trying again in 1 s (2 of 2)")
    assert refusal.startswith("seller-transfers: loading db/functions failed: ")
    assert who in refusal


def test_migrate_does_not_touch_a_database_of_a_newer_release(dsn: str, db: Database) -> None:
    db.execute("update marketplace.schema_release set migration_head = '9999.fly', functions_sha256 = repeat('0', 64)")

    result = command("migrate", DATABASE_URL=dsn)

    assert (result.exit_code, result.stdout) == (4, "")
    assert "newer than this program" in only_line(result.stderr)
    assert value(db, "select functions_sha256 from marketplace.schema_release") == "0" * 64


def test_migrate_mends_functions_of_another_release(dsn: str, db: Database) -> None:
    db.execute("update marketplace.schema_release set functions_sha256 = repeat('0', 64)")

    assert command("migrate", DATABASE_URL=dsn).exit_code == 0
    assert command("status", DATABASE_URL=dsn).exit_code == 0


def test_status_of_a_new_database_is_good_news(dsn: str) -> None:
    result = command("status", DATABASE_URL=dsn)

    assert (result.exit_code, result.stderr) == (0, "")
    assert "No transfers yet." in result.stdout
    assert "reversals: 0 due" in result.stdout
    assert "PROBLEM" not in result.stdout


def test_status_shows_the_money_as_people_write_it(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, "a", "b", amount=123456, currency="usd")
    pay_sellers(db, simulator, "yen", amount=5000, currency="jpy")
    refund(db, "b")

    result = command("status", DATABASE_URL=dsn)

    assert result.exit_code == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in result.stdout.splitlines()]
    for line in (
        "usd completed 1 1,234.56 123456",
        "usd reversal_pending 1 1,234.56 123456",
        "jpy completed 1 5,000 5000",
    ):
        assert line in lines
    assert "reversals: 1 due" in result.stdout


def test_status_of_a_paused_database_says_why_and_how_to_go_on(dsn: str, db: Database) -> None:
    rows(db, "select * from marketplace.pause_stripe_calls('the [bold]bank[/bold] is asking')")

    result = command("status", DATABASE_URL=dsn)

    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "by person: the [bold]bank[/bold] is asking" in shown
    assert "To end the pause now: select * from marketplace.resume_stripe_calls(p_reason => '…');" in shown


def test_status_of_a_pause_by_verdict_says_that_it_may_end_by_itself(dsn: str, db: Database) -> None:
    rows(db, "select marketplace._pause_by_verdict('Expired API Key', now() + interval '1 minute', now())")

    result = command("status", DATABASE_URL=dsn)

    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    assert "by verdict: Expired API Key" in shown
    assert "; the pause ends by itself with the first one that Stripe does not refuse so." in shown
    assert "To end the pause now: select * from marketplace.resume_stripe_calls(" in shown


def test_status_with_a_parked_row_is_1_and_says_where_to_look(
    dsn: str, db: Database, simulator: SimulatorClient
) -> None:
    pay_sellers(db, simulator, "a")
    refund(db, "a")
    db.execute(
        "update marketplace.seller_transfers set parked_reason = 'moved_twice: trr_[b]1[/b], trr_2'"
        " where status = 'reversal_pending'"
    )

    result = command("status", DATABASE_URL=dsn)

    assert result.exit_code == 1
    assert "  NEEDS A PERSON: 1 moved_twice (since " in result.stdout
    assert ": Two reversals were made for one: give one back by a transfer." in result.stdout
    assert "\nPARKED since " in result.stdout
    assert "select id, status from marketplace.retry_now(p_id => " in result.stdout
    assert "from marketplace.needs_attention;\nWhat to do about them: docs/triage.md." in result.stdout


def test_status_shows_the_rate_and_the_runners(dsn: str, db: Database) -> None:
    db.execute("delete from marketplace.runners")
    unlimited = command("status", DATABASE_URL=dsn)
    assert unlimited.exit_code == 0
    assert "Stripe calls: as many as the runners can make; no rate is set." in unlimited.stdout.splitlines()
    assert "No runner has been seen in the last ten minutes." in unlimited.stdout.splitlines()

    rows(db, "select * from marketplace.set_stripe_rate(20, 'as before')")
    rows(db, "select * from marketplace.register_runner('[b]lue', '1.0', 'acct_1Own', false)")
    rows(db, "select * from marketplace.register_runner('green', '1.0', null, false)")
    db.execute(
        "update marketplace.runners set ended_at = now(), ended_reason = 'Stripe refused its key'"
        " where worker = 'green'"
    )
    rows(db, "select marketplace._turn_rate_down(now(), 'Stripe said so')")

    shown = command("status", DATABASE_URL=dsn)

    assert shown.exit_code == 0
    assert "at most 20 a second by all runners together, 5 at once; now 1" in shown.stdout
    assert "The rate was turned down at " in shown.stdout
    assert ", from 20 to 10 calls a second: Stripe said so; it grows back within a minute." in shown.stdout
    db.execute("update marketplace.stripe_control set cut_at = cut_at - interval '1 day'")
    grown = command("status", DATABASE_URL=dsn)
    assert "5 at once; now 20 a second" in grown.stdout
    assert "The rate was last turned down at " in grown.stdout
    assert ": Stripe said so; it has grown back since." in grown.stdout
    assert "runner [b]lue (1.0, acct_1Own, test mode): last seen " in shown.stdout
    assert "runner green (1.0, account not known, test mode): last seen " in shown.stdout
    assert shown.stdout.count("may not claim since ") == 1
    assert ": Stripe refused its key" in shown.stdout


def test_status_with_something_wrong_is_1_and_says_what_to_do(dsn: str, db: Database) -> None:
    db.execute("alter table marketplace.seller_transfers enable trigger _100_guard_transition")

    result = command("status", DATABASE_URL=dsn)

    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    assert "PROBLEM: trigger not ENABLE ALWAYS: _100_guard_transition on marketplace.seller_transfers." in shown
    assert "alter table marketplace.seller_transfers enable always trigger _100_guard_transition;" in shown


def test_a_reader_that_leaves_early_gets_no_traceback(dsn: str) -> None:
    environment = {**os.environ, "DATABASE_URL": dsn}
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "status"],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
        running.wait(30)
    assert "Traceback" not in said
