"""What self_check() finds of sessions: old transactions, seen from later on, and the lock of a migrator that died."""

import threading

from tests.support.databases import Connect, Database, rows, value
from tests.support.raw_transfers import run
from tests.support.runners import wait_until

LATER = "clock_timestamp() + interval '%s minutes'"


def found(db: Database, minutes: int = 0, role: str = "marketplace_owner") -> list[tuple[str, str, str]]:
    """What is found that many minutes from now, with the rights that self_check() has."""
    with db.transaction():
        run(db, f"set local role {role}")
        problems = rows(db, f"select * from marketplace._check_sessions({LATER % minutes}) order by problem")
        run(db, "reset role")
    return [(problem["problem"], problem["object"], problem["hint"]) for problem in problems]


def test_a_transaction_that_is_open_for_ten_minutes_is_found_and_the_hint_ends_it(connect: Connect) -> None:
    db, other = connect(), connect(autocommit=False)
    other.execute("select 1")
    pid = other.info.backend_pid
    assert found(db, 4) == []
    idle = [("idle in transaction", f"pid {pid}", f"select pg_terminate_backend({pid});")]
    assert found(db, 6) == idle
    assert found(db, 11) == idle
    run(db, idle[0][2])
    gone = f"select count(*) = 0 from pg_stat_activity where pid = {pid}"
    wait_until(lambda: value(db, gone), "the session is gone")
    assert found(db, 11) == []


def test_a_transaction_at_work_is_found_after_ten_minutes(connect: Connect) -> None:
    db, holder, waiting = connect(), connect(), connect(autocommit=False)
    holder.execute("select pg_advisory_lock(1)")
    thread = threading.Thread(target=lambda: waiting.execute("select pg_advisory_lock(1)"))
    thread.start()
    try:
        waits = f"select count(*) from pg_locks where pid = {waiting.info.backend_pid} and not granted"
        wait_until(lambda: value(db, waits) == 1, "the other waits for its lock")
        assert found(db, 9) == []
        assert [(problem, of) for problem, of, _ in found(db, 11)] == [
            ("old transaction", f"pid {waiting.info.backend_pid}")
        ]
    finally:
        holder.execute("select pg_advisory_unlock(1)")
        thread.join()


def test_where_other_roles_sessions_cannot_be_seen_it_says_so(connect: Connect) -> None:
    db, other = connect(), connect(autocommit=False)
    other.execute("select 1")
    db.execute("begin")
    db.execute("create role blind")
    db.execute("grant usage on schema marketplace to blind")
    db.execute("grant execute on all functions in schema marketplace to blind")
    assert found(db, 11, "blind") == [
        (
            "sessions not visible",
            "pg_stat_activity",
            "As an administrator: grant pg_read_all_stats to marketplace_owner;",
        )
    ]
    db.execute("grant pg_read_all_stats to blind")
    assert [problem for problem, _, _ in found(db, 11, "blind")] == ["idle in transaction"]
    db.execute("rollback")


def test_yoyos_lock_is_stale_when_it_is_old_and_nobody_migrates(connect: Connect) -> None:
    db, migrator = connect(), connect()
    assert value(db, "select count(*) from public.yoyo_lock") == 0
    run(db, "insert into public.yoyo_lock (locked, ctime, pid) values (1, now() at time zone 'UTC', 4711)")
    assert found(db, 9) == []
    ((problem, table, hint),) = found(db, 11)
    assert (problem, table) == ("stale lock", "public.yoyo_lock")
    assert "seller-transfers migrate" in hint
    migrator.execute("select pg_advisory_lock(98639378)")  # 0x5E11E12, as migrate does
    assert found(db, 11) == []
    migrator.execute("select pg_advisory_unlock(98639378)")
    assert len(found(db, 11)) == 1


def test_a_lock_table_of_somebody_who_may_not_migrate_is_not_read(connect: Connect) -> None:
    """Its columns may be of types whose casts are his: they would run with the owner's rights."""
    db = connect()
    db.execute("begin")
    db.execute("set local session authorization marketplace_readonly")
    db.execute("create type pg_temp.moment as enum ('then')")
    db.execute(
        "create function pg_temp.as_time(pg_temp.moment) returns timestamp language plpgsql"
        " as $$ begin raise exception 'ran as %', current_user; end $$"
    )
    db.execute("create cast (pg_temp.moment as timestamp) with function pg_temp.as_time(pg_temp.moment) as implicit")
    db.execute("create temp table yoyo_lock (pid integer, ctime pg_temp.moment)")
    db.execute("insert into yoyo_lock values (1, 'then')")
    db.execute("grant select on yoyo_lock to public")
    # Whichever of them is found first.
    db.execute("reset session authorization")
    db.execute("revoke select on public.yoyo_lock from marketplace_owner")
    db.execute("set local session authorization marketplace_readonly")
    assert value(db, "select count(*) from marketplace.self_check(false) where problem = 'stale lock'") == 0
    db.execute("rollback")
