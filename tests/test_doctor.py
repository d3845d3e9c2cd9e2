"""`seller-transfers doctor`: says what is wrong and what to do, and changes nothing."""

import pytest

from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.databases import Database, open_database
from tests.support.raw_transfers import add_transfer, run
from tests.support.tampering import tamper
from tests.support.transfers import contents
from tests.test_cli import command

pytest_plugins = ("tests.support.sound_server",)


def problems(output: str) -> list[str]:
    """What is found, without what to do about it; the tests' server forgets commits, which everybody knows."""
    lines = [line for line in output.splitlines() if line.startswith(("PROBLEM: ", "NOTE: "))]
    return [line.split(" (")[0] for line in lines if not line.startswith("PROBLEM: commits may be lost")]


def test_a_sound_database_on_a_sound_server_is_0(sound_dsn: str) -> None:
    result = command("doctor", DATABASE_URL=sound_dsn)

    assert (result.exit_code, result.stderr) == (0, "")
    assert problems(result.stdout) == []
    checks = [line.replace("│", " ").split() for line in result.stdout.splitlines() if line.startswith("│")]
    assert len(checks) == 4
    assert all(check[-2:] == ["none", "none"] for check in checks)


def test_settings_that_lose_commits_are_1_and_said_with_what_to_do(dsn: str) -> None:
    result = command("doctor", DATABASE_URL=dsn)

    assert result.exit_code == 1
    assert "PROBLEM: commits may be lost: fsync (fsync is off). alter system set fsync = on; " in result.stdout


def test_a_log_that_does_not_replay_is_found_and_status_does_not_read_it(dsn: str, db: Database) -> None:
    transfer_id = add_transfer(db, "completed")
    tamper(db, "delete from marketplace.transfer_status_log")
    before = contents(db)

    result = command("doctor", DATABASE_URL=dsn)

    assert result.exit_code == 1
    assert problems(result.stdout) == [f"PROBLEM: history does not hold: transfer {transfer_id}"]
    assert "has no log" in result.stdout
    assert command("status", DATABASE_URL=dsn).exit_code == 0
    assert contents(db) == before


def test_a_guard_that_was_replaced_along_with_its_digest_is_found_by_the_programs_own_files(
    dsn: str, db: Database
) -> None:
    run(
        db,
        "create or replace function marketplace.tg_seller_transfers__guard_frozen() returns trigger language plpgsql"
        " set search_path = pg_catalog, pg_temp as $$ begin return NEW; end $$",
    )
    run(
        db,
        "update marketplace.schema_functions set sha256 = marketplace._function_sha256(signature::regprocedure)",
    )
    assert command("status", DATABASE_URL=dsn).exit_code == 0

    result = command("doctor", DATABASE_URL=dsn)

    name = "marketplace.tg_seller_transfers__guard_frozen"
    assert problems(result.stdout) == [f"PROBLEM: function differs: {name}"]


def test_a_function_of_somebodys_own_is_to_be_dropped_and_not_migrated_away(dsn: str, db: Database) -> None:
    run(db, "create function marketplace.of_a_dba() returns integer language sql as 'select 1'")

    result = command("doctor", DATABASE_URL=dsn)

    assert "foreign function: marketplace.of_a_dba()" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "function differs" in line]
    assert line.endswith(" Find out who made it, and drop it.")


def test_what_is_only_to_be_known_is_a_note_and_0(sound_dsn: str) -> None:
    with open_database(sound_dsn) as db:
        run(db, "revoke pg_read_all_stats from marketplace_owner")
        try:
            result = command("doctor", DATABASE_URL=sound_dsn)
        finally:
            run(db, "grant pg_read_all_stats to marketplace_owner")

    assert result.exit_code == 0
    assert problems(result.stdout) == ["NOTE: sessions not visible: pg_stat_activity"]


@pytest.mark.parametrize(("key", "code"), [(TEST_KEY, 0), ("sk_test_of_nobody", 5)])
def test_stripe_is_asked_when_told_to(sound_dsn: str, simulator: SimulatorClient, key: str, code: int) -> None:
    result = command(
        "doctor",
        "--stripe",
        DATABASE_URL=sound_dsn,
        STRIPE_API_KEY=key,
        SELLER_TRANSFERS_STRIPE_API_BASE=simulator.base_url,
    )
    assert result.exit_code == code
    assert key not in result.output
    assert ("│ Stripe" in result.stdout) is (code == 0)


def test_a_stripe_that_cannot_be_reached_is_1(sound_dsn: str) -> None:
    result = command(
        "doctor",
        "--stripe",
        DATABASE_URL=sound_dsn,
        STRIPE_API_KEY=TEST_KEY,
        SELLER_TRANSFERS_STRIPE_API_BASE="http://127.0.0.1:9",
    )
    assert result.exit_code == 1
    assert problems(result.stdout) == ["PROBLEM: Stripe not reachable: Stripe"]


def test_without_the_schema_it_is_4_and_without_the_database_3(empty_dsn: str) -> None:
    assert command("doctor", DATABASE_URL=empty_dsn).exit_code == 4
    assert command("doctor", DATABASE_URL="postgresql://nobody@127.0.0.1:9/none").exit_code == 3
