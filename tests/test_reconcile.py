"""`seller-transfers reconcile`: Stripe's lists are read to their ends, patiently, and compared."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int4

from runner.cli import main
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.databases import Database, rows, value
from tests.support.orders import open_rows, order_payouts, pay_sellers, record_paid, refunded, set_delays, transfer_of
from tests.support.runners import runners, wait_until
from tests.support.transfers import call, contents

LISTS = "^/v1/transfers$"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again without waiting."""
    monkeypatch.setattr("runner.waiting.RETRY_DELAYS", (0.0, 0.0, 0.0))


def reconcile(dsn: str, stripe: SimulatorClient, *options: str, key: str = TEST_KEY) -> Result:
    environment = {"DATABASE_URL": dsn, "STRIPE_API_KEY": key, "SELLER_TRANSFERS_STRIPE_API_BASE": stripe.base_url}
    return CliRunner().invoke(main, ["reconcile", *options], env=environment, catch_exceptions=False)


def the_run(db: Database) -> dict[str, Any]:
    (run,) = call(db, "read_reconcile_run")
    return run


def kinds(db: Database) -> list[str]:
    return [each["kind"] for each in call(db, "reconcile_differences")]


def marked(db: Database, name: str) -> dict[str, str]:
    """The metadata of what this database sends for the order of this name."""
    database = value(db, "select database_id from marketplace.stripe_control")
    return {
        "seller_transfers_identity": f"transfer:{database}:key-{name}",
        "transfer_key": f"key-{name}",
        "order_id": f"order-{name}",
    }


def test_after_work_under_a_runner_stripe_and_the_database_agree(
    dsn: str, db: Database, simulator: SimulatorClient, tmp_path: Path
) -> None:
    refunded(db, simulator, *(f"back{n}" for n in range(3)))
    order_payouts(db, simulator, *(f"out{n}" for n in range(3)))
    simulator.fund(1_000_000, "usd")
    with runners(dsn, simulator.base_url, tmp_path) as start:
        start()
        done = "select count(*) = 6 from marketplace.seller_transfers where status in ('completed', 'reversed')"
        wait_until(lambda: value(db, done), "all is done")
    before = contents(db)

    result = reconcile(dsn, simulator)

    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [f"run {the_run(db)['id']}: 6 transfers and 3 reversals read at Stripe", "Stripe and the database agree."],
    )
    after = contents(db)
    changed = {table for table in after if after[table] != before[table]}
    assert changed == {"reconcile_runs", "reconcile_objects"}


def test_beside_a_runner_at_work_nothing_differs(
    dsn: str, db: Database, simulator: SimulatorClient, tmp_path: Path
) -> None:
    refunded(db, simulator, *(f"back{n}" for n in range(30)))
    order_payouts(db, simulator, *(f"out{n}" for n in range(30)))
    set_delays(db, "unknown", "0.2 s")
    simulator.fund(1_000_000, "usd")
    for action in ("drop_after", "drop_before", "error_after"):
        simulator.add_fault(action, match={"method": "POST"}, times=5, probability=0.2)
    compared = []
    with runners(dsn, simulator.base_url, tmp_path) as start:
        call(db, "set_stripe_rate", p_per_second=Decimal(60), p_burst=Int4(5), p_reason="to take a while")
        start()
        while open_rows(db):
            compared.append(reconcile(dsn, simulator))

    assert len(compared) > 1
    assert [result.exit_code for result in compared] == [0] * len(compared), compared[-1].output


def test_what_differs_is_told_with_what_to_type_and_means_1(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, "blue")
    record_paid(db, ["red"], ["tr_red"])
    (lost,) = simulator.create_transfers(
        [{"destination": "acct_x", "amount": 1050, "currency": "usd", "metadata": marked(db, "green")}]
    )

    result = reconcile(dsn, simulator)

    assert result.exit_code == 1
    assert kinds(db) == ["lost transfer", "not at Stripe"]
    assert re.search(r"lost transfer +│ urgent +│ +1 ", result.stdout)
    assert (
        f"LOST TRANSFER order order-green {lost} (10.50 USD at Stripe): It was sent by this database" in result.stdout
    )
    assert "\n  select id, status from marketplace.record_completed_transfer(" in result.stdout
    assert the_run(db)["reread_at"] is not None


def test_lists_of_many_pages_and_very_many_reversals_are_read_whole(
    dsn: str, db: Database, simulator: SimulatorClient
) -> None:
    names = [f"n{n}" for n in range(250)]
    made = pay_sellers(db, simulator, *names, amount=5000)
    simulator.create_reversals(made[0], [{"amount": 1}] * 1250)
    simulator.create_reversals(made[249], [{"amount": 2}] * 11)

    reconcile(dsn, simulator)

    run = the_run(db)
    assert (run["is_complete"], run["transfers"], run["reversals"]) == (True, 251, 1261)
    listed = rows(
        db,
        "select stripe_transfer_id as id, sum(amount) as sum from marketplace.reconcile_objects"
        " where object = 'transfer_reversal' group by 1",
    )
    assert {each["id"]: each["sum"] for each in listed} == {made[0]: 1250, made[249]: 22}


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "error", "status": 429, "code": "rate_limit", "message": "Too many."},
        {"action": "error", "status": 500, "type": "api_error", "message": "Sorry."},
        {"action": "truncated"},
        {"action": "drop_before"},
        {"action": "garbage", "body": "[1,2]"},
    ],
    ids=lambda fault: str(fault.get("status", fault["action"])),
)
def test_a_request_that_fails_is_made_again(
    dsn: str, db: Database, simulator: SimulatorClient, fault: dict[str, Any]
) -> None:
    pay_sellers(db, simulator, *(f"n{n}" for n in range(120)))
    simulator.add_fault(**fault, match={"path": LISTS}, times=3)

    result = reconcile(dsn, simulator)

    assert (result.exit_code, the_run(db)["transfers"]) == (0, 120), result.output
    assert result.stderr.count("; trying again in 0 s") == 3


def test_a_stripe_that_fails_for_good_means_1_and_nothing_is_compared(
    dsn: str, db: Database, simulator: SimulatorClient
) -> None:
    pay_sellers(db, simulator, *(f"n{n}" for n in range(120)))
    record_paid(db, ["red"], ["tr_red"])
    simulator.add_fault(
        action="error", status=500, type="api_error", message="Sorry.", match={"path": LISTS}, skip=1, times=None
    )

    result = reconcile(dsn, simulator, "--resume", "it should")

    run = the_run(db)
    assert (result.exit_code, run["is_complete"], run["differences"]) == (1, False, None)
    assert run["trouble"] == "Stripe does not give what was asked for: HTTP 500: Sorry."
    assert f"ended early, and nothing was compared: {run['trouble']}" in result.stdout
    assert "esumed" not in result.stdout
    assert kinds(db) == []


def test_a_login_that_may_compare_and_no_more_is_told_so_after_the_differences(
    dsn: str, db: Database, simulator: SimulatorClient
) -> None:
    record_paid(db, ["red"], ["tr_red"])
    db.execute("create role comparer login in role marketplace_runner")
    try:
        for option in ("--look-up", "--resume"):
            result = reconcile(make_conninfo(dsn, user="comparer"), simulator, option, "to see")

            assert result.exit_code == 4
            assert "NOT AT STRIPE" in result.stdout
            assert result.stderr.endswith("; the login has to be a member of marketplace_triage\n")
    finally:
        db.execute("drop role comparer")


def test_each_request_is_paid_for_from_the_budget_of_all(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, *(f"n{n}" for n in range(250)))
    call(db, "set_stripe_rate", p_per_second=Decimal("0.1"), p_burst=Int4(50), p_reason="to count")
    db.execute("update marketplace.stripe_control set tokens = 50, tokens_at = clock_timestamp()")

    reconcile(dsn, simulator)

    assert call(db, "read_rate_budget")[0]["tokens"] == 47


def test_without_tokens_it_waits_for_them(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, *(f"n{n}" for n in range(250)))
    call(db, "set_stripe_rate", p_per_second=Decimal(20), p_burst=Int4(1), p_reason="to wait")

    result = reconcile(dsn, simulator)

    assert (result.exit_code, the_run(db)["transfers"]) == (0, 250)


def test_a_shorter_list_is_asked_for_by_time(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    pay_sellers(db, simulator, "blue")

    result = reconcile(dsn, simulator, "--since", "1h")

    since = the_run(db)["created_since"]
    (asked,) = [each.params for each in simulator.requests() if each.path == "/v1/transfers"]
    assert (result.exit_code, asked["created"]) == (0, {"gte": str(int(since.timestamp()))})
    assert re.search(r": 1 transfer and 0 reversals of transfers made since \S+Z read at Stripe", result.stdout)


def test_a_row_that_does_not_know_is_looked_up_when_told_to_and_then_both_agree(
    dsn: str, db: Database, simulator: SimulatorClient, tmp_path: Path
) -> None:
    order_payouts(db, simulator, "blue")
    simulator.create_transfers(
        [
            {
                "destination": "acct_blue",
                "amount": 1000,
                "currency": "usd",
                "metadata": marked(db, "blue"),
                "transfer_group": "order-blue",
            }
        ]
    )

    first = reconcile(dsn, simulator, "--look-up", "the restore forgot it")
    with runners(dsn, simulator.base_url, tmp_path) as start:
        start()
        wait_until(lambda: transfer_of(db, "blue")["completed_at"], "it is known to be paid")

    assert first.exit_code == 1
    assert "is looked up for transfer" in first.stdout
    assert reconcile(dsn, simulator).exit_code == 0
    assert simulator.sent_minus_reversed() == {"acct_blue": {"usd": 1000}}
    reasons = rows(db, "select reason from marketplace.transfer_status_log order by id")
    assert any("the restore forgot it" in (each["reason"] or "") for each in reasons)


def test_where_calls_go_on_there_is_nothing_to_resume(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    result = reconcile(dsn, simulator, "--resume", "to be sure")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        "Stripe and the database agree.",
        f"Not resumed: run {the_run(db)['id']} resumes nothing: calls go on as usual. There is nothing to resume.",
    ]


def test_what_forbids_calls_is_marked_so(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    record_paid(db, ["red"], ["tr_red"])
    result = reconcile(dsn, simulator)
    assert re.search(r"another account +│ urgent, forbids calls │ +1 ", result.stdout)
    assert re.search(r"not at Stripe +│ urgent +│ +1 ", result.stdout)


def test_a_key_of_another_account_reads_nothing(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    call(db, "register_runner", p_worker="w", p_version="1", p_stripe_account="acct_1Own", p_livemode=False)

    result = reconcile(dsn, simulator)

    assert (result.exit_code, result.stdout) == (5, "")
    assert "acct_1Own" in result.stderr
    assert [each.path for each in simulator.requests() if each.path == "/v1/transfers"] == []


def test_a_run_that_is_begun_ends_the_one_before(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    (before,) = call(db, "start_reconcile", p_stripe_account=None, p_livemode=False)
    assert reconcile(dsn, simulator).exit_code == 0
    ended = rows(db, "select trouble from marketplace.reconcile_runs where id = %(id)s", id=before["id"])
    assert ended == [{"trouble": "Another run was begun."}]


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "yesterday"],
        ["--since", "0001-01-01T00:00:00Z"],
        ["--since", "3d", "--resume", "x"],
        ["--resume", " "],
        ["--look-up", "x" * 501],
        ["--look-up", "a\nb"],
    ],
)
def test_what_cannot_be_meant_is_bad_usage(dsn: str, simulator: SimulatorClient, options: list[str]) -> None:
    result = reconcile(dsn, simulator, *options)
    assert (result.exit_code, result.stdout) == (2, "")


def test_status_says_when_both_were_last_compared(dsn: str, db: Database, simulator: SimulatorClient) -> None:
    def status() -> str:
        done = CliRunner().invoke(main, ["status"], env={"DATABASE_URL": dsn}, catch_exceptions=False)
        return done.stdout

    assert "Never compared with Stripe: seller-transfers reconcile" in status()
    record_paid(db, ["red"], ["tr_red"])
    reconcile(dsn, simulator)
    assert re.search(r"Compared with Stripe at \S+ \S+ \S+: 2 differences, 2 of them urgent", status())
    assert "DIFFERS FROM STRIPE since " in status()
