"""server_check(): each setting and state of the server that endangers money, and none where all is as it should be."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.databases import Database, open_database, rows, value
from tests.support.raw_transfers import add_transfer, run
from tests.support.runners import wait_until
from tests.support.tampering import tamper

pytest_plugins = ("tests.support.sound_server",)


@pytest.fixture
def sound_db(sound_dsn: str) -> Iterator[Database]:
    """For commits that count: none of its tests leaves anything changed."""
    with closing(open_database(sound_dsn)) as db:
        yield db


def found(db: Database) -> list[tuple[str, str]]:
    problems = rows(db, "select * from marketplace.server_check() order by problem, object")
    assert all(problem["hint"] and problem["detail"] for problem in problems)
    return [(problem["problem"], problem["object"]) for problem in problems]


def follow(db: Database) -> None:
    """Do what the hints say."""
    for problem in rows(db, "select * from marketplace.server_check()"):
        for statement in filter(None, map(str.strip, problem["hint"].split(";"))):
            run(db, statement)


def test_a_server_as_it_comes_is_as_it_should_be(sound_db: Database) -> None:
    assert found(sound_db) == []


def test_settings_that_lose_commits_are_found_and_the_hint_mends_them(sound_db: Database) -> None:
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        run(sound_db, f"alter system set {setting} = off")
        run(sound_db, "select pg_reload_conf()")
        wait_for(sound_db, setting, "off")
        assert found(sound_db) == [("commits may be lost", setting)]
        follow(sound_db)
        wait_for(sound_db, setting, "on")
        assert found(sound_db) == []


def wait_for(db: Database, setting: str, value_now: str) -> None:
    """Wait until this session has heard of it."""
    wait_until(lambda: value(db, f"select current_setting('{setting}')") == value_now, f"{setting} is {value_now}")


def test_a_vacuum_that_is_off_is_found_and_the_hint_mends_it(sound_db: Database) -> None:
    run(sound_db, "alter table marketplace.seller_transfers set (autovacuum_enabled = off)")
    assert found(sound_db) == [("vacuum is off", "marketplace.seller_transfers")]
    follow(sound_db)
    assert found(sound_db) == []
    run(sound_db, "alter system set autovacuum = off")
    run(sound_db, "select pg_reload_conf()")
    wait_for(sound_db, "autovacuum", "off")
    assert found(sound_db) == [("vacuum is off", "autovacuum")]
    follow(sound_db)
    wait_for(sound_db, "autovacuum", "on")
    assert found(sound_db) == []


def test_a_slot_that_nobody_reads_is_found_and_the_hint_drops_it(sound_db: Database) -> None:
    run(sound_db, "select pg_create_physical_replication_slot('left_behind', true)")
    assert found(sound_db) == [("slot that nobody reads", "left_behind")]
    follow(sound_db)
    assert found(sound_db) == []


def test_another_isolation_than_the_functions_take_is_found(sound_db: Database) -> None:
    run(sound_db, "set default_transaction_isolation = 'repeatable read'")
    assert found(sound_db) == [("isolation", "default_transaction_isolation")]
    run(sound_db, "reset default_transaction_isolation")


def test_a_clock_that_was_set_back_is_found(sound_db: Database) -> None:
    with sound_db.transaction(force_rollback=True):
        add_transfer(sound_db, "pending")
        tamper(sound_db, "update marketplace.transfer_status_log set logged_at = logged_at + interval '1 minute'")
        assert found(sound_db) == [("clock was set back", "transfer_status_log")]


def test_a_prepared_transaction_that_was_forgotten_is_found_by_self_check(sound_db: Database) -> None:
    run(sound_db, "begin; create table public.half (n integer); prepare transaction 'half-way'")
    later = "select problem, object, hint from marketplace._check_sessions(clock_timestamp() + interval '11 minutes')"
    (problem,) = rows(sound_db, later)
    assert (problem["problem"], problem["object"]) == ("old prepared transaction", "half-way")
    run(sound_db, problem["hint"])
    assert rows(sound_db, later) == []
