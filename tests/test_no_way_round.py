"""No way leads round the guards, whoever tries: the groups, the owner, a superuser. For records: test_append_only."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pytest_postgresql.janitor import DatabaseJanitor

from tests.support.databases import Database, ServerAddress, open_database, open_session, row, rows, value
from tests.support.dumps import dumped, restored
from tests.support.raw_transfers import BIRTHS, ENTERING, STATUSES, add_transfer
from tests.support.transfers import contents, create_transfer, record_transfer, request_reversal

pytest_plugins = ("tests.support.rolled_back",)

SUPERUSER = "postgres"
OWNER = "marketplace_owner"
WITHOUT_RIGHTS = ("marketplace_app", "marketplace_runner", "marketplace_triage", "marketplace_readonly")
LEGAL = {
    ("pending", "completed"),
    ("pending", "failed"),
    ("completed", "reversal_pending"),
    ("failed", "completed"),
    ("failed", "permanently_failed"),
    ("reversal_pending", "reversed"),
    ("reversal_pending", "permanently_failed"),
}
ILLEGAL = [(old, new) for old in STATUSES for new in STATUSES if old != new and (old, new) not in LEGAL]
FORBIDDEN, NO_RIGHT = "ST002", "42501"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


@contextmanager
def acting_as(db: Database, role: str) -> Iterator[None]:
    """As if a member of the role had connected; whatever is done is undone."""
    with db.transaction(force_rollback=True):
        db.execute(f"set local session authorization {role}".encode())
        yield


def refusal(db: Database, role: str, *statements: str) -> str | None:
    """SQLSTATE with which the last of the statements is refused; None if it is not."""
    try:
        with acting_as(db, role):
            for statement in statements:
                db.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_no_role_moves_a_status_along_an_edge_that_is_not_drawn(db: Database) -> None:
    assert len(ILLEGAL) == 23
    ids = {status: add_transfer(db, status) for status in STATUSES}
    for old, new in ILLEGAL:
        update = f"update marketplace.seller_transfers set status = '{new}', {ENTERING[new]} where id = {ids[old]}"
        for role, refused in ((SUPERUSER, {"ST001"}), (OWNER, {"ST001"}), *((r, {NO_RIGHT}) for r in WITHOUT_RIGHTS)):
            assert refusal(db, role, update) in refused, (role, old, new)
        # Nor where triggers are switched off for replication.
        assert refusal(db, SUPERUSER, "set local session_replication_role = replica", update) == "ST001", (old, new)
    for role in (OWNER, *WITHOUT_RIGHTS):
        assert refusal(db, role, "set local session_replication_role = replica") == NO_RIGHT


def test_no_row_is_born_or_copied_in_where_no_row_is_born(db: Database) -> None:
    for status in sorted(set(STATUSES) - set(BIRTHS)):
        values = f"'{status}', 'k', 'o', 's', 'acct_1', 10, 10, 'usd'"
        columns = "status, transfer_key, order_id, seller_id, destination_account, original_amount, amount, currency"
        insert = f"insert into marketplace.seller_transfers ({columns}) values ({values})"
        for prefix in ((), ("set local session_replication_role = replica",)):
            assert refusal(db, SUPERUSER, *prefix, insert) == "ST001"
        assert refusal(db, OWNER, insert) == "ST001"
        for role in WITHOUT_RIGHTS:
            assert refusal(db, role, insert) == NO_RIGHT
        line = values.replace("'", "").replace(", ", "\t") + "\n"
        for role, sqlstate in ((SUPERUSER, "ST001"), (OWNER, "ST001"), *((r, NO_RIGHT) for r in WITHOUT_RIGHTS)):
            with (
                pytest.raises(psycopg.Error) as refused,
                acting_as(db, role),
                db.cursor() as cursor,
                cursor.copy(f"copy marketplace.seller_transfers ({columns}) from stdin".encode()) as copy,
            ):
                copy.write(line)
            assert refused.value.sqlstate == sqlstate


def test_no_status_is_moved_by_an_insert_that_conflicts_or_by_a_merge(db: Database) -> None:
    transfer_id = add_transfer(db, "reversed")
    again = (
        "insert into marketplace.seller_transfers overriding system value"
        f" select * from marketplace.seller_transfers where id = {transfer_id}"
    )
    born = "status, transfer_key, order_id, seller_id, destination_account, original_amount, amount, currency"
    upsert = (
        f"insert into marketplace.seller_transfers ({born}, next_retry_at, call_generation, call_minted_at)"
        f" select 'pending', {born.removeprefix('status, ')}, now(), 1, now()"
        f" from marketplace.seller_transfers where id = {transfer_id}"
        " on conflict (transfer_key) where transfer_key is not null do update set status = 'completed'"
    )
    statements = [(again, {"ST001"}), (upsert, {"ST001", "42P10"})]
    if db.info.server_version >= 150000:
        merge = (
            "merge into marketplace.seller_transfers as t using (select 1) as s on t.id = "
            f"{transfer_id} when matched then update set status = 'completed'"
        )
        statements.append((merge, {"ST001"}))
    for statement, expected in statements:
        for role in (SUPERUSER, OWNER):
            assert refusal(db, role, statement) in expected, statement
        for role in WITHOUT_RIGHTS:
            assert refusal(db, role, statement) == NO_RIGHT, statement


def test_no_guard_is_dropped_disabled_or_replaced_without_saying_that_it_is_meant(db: Database) -> None:
    db.execute("set local marketplace.guards_may_change = 'off'")
    guards = rows(
        db,
        "select c.relname, g.tgname, g.tgfoid::regproc::text as function from pg_trigger as g"
        " inner join pg_class as c on c.oid = g.tgrelid"
        " where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal order by 1, 2",
    )
    assert len(guards) > 30
    for guard in guards:
        table, trigger = f"marketplace.{guard['relname']}", guard["tgname"]
        for statement in (f"drop trigger {trigger} on {table}", f"alter table {table} disable trigger {trigger}"):
            assert refusal(db, SUPERUSER, statement) == FORBIDDEN, statement
    for guard in {each["relname"]: each for each in guards}.values():
        table, trigger = f"marketplace.{guard['relname']}", guard["tgname"]
        for statement in (
            f"drop trigger {trigger} on {table}",
            f"alter table {table} disable trigger all",
            f"alter table {table} disable trigger user",
            f"alter table {table} enable trigger {trigger}",
            f"alter table {table} enable replica trigger {trigger}",
            f"alter trigger {trigger} on {table} rename to _999_asleep",
        ):
            # The owner lacks the right to touch triggers of foreign keys, which `all` means.
            assert refusal(db, SUPERUSER, statement) == FORBIDDEN, statement
            assert refusal(db, OWNER, statement) in (FORBIDDEN, NO_RIGHT), statement
            assert refusal(db, "marketplace_triage", statement) == NO_RIGHT, statement
    (function,) = {each["function"] for each in guards if "guard_transition" in each["function"]}
    assert refusal(db, SUPERUSER, f"drop function {function} cascade") == FORBIDDEN
    assert refusal(db, SUPERUSER, "drop owned by marketplace_owner cascade") in (None, FORBIDDEN)
    # What is meant can be said.
    said = "set local marketplace.guards_may_change = 'on'"
    assert refusal(db, SUPERUSER, said, "drop trigger _100_guard_transition on marketplace.seller_transfers") is None


def test_a_database_whose_guards_are_weak_already_can_be_mended_and_used(db: Database) -> None:
    db.execute("alter table marketplace.seller_transfers disable trigger _100_guard_transition")
    db.execute("alter table marketplace.charges add column more text")
    db.execute("set local marketplace.guards_may_change = 'off'")
    db.execute("alter table marketplace.charges drop column more")
    assert (
        refusal(db, SUPERUSER, "alter table marketplace.seller_transfers disable trigger _200_guard_frozen")
        == FORBIDDEN
    )
    db.execute("alter table marketplace.seller_transfers enable always trigger _100_guard_transition")
    assert rows(db, "select * from marketplace.self_check()") == []


def test_everybody_elses_tables_and_functions_are_changed_as_ever(db: Database) -> None:
    """The event triggers fire for the DDL of logins that may not even use the schema."""
    db.execute("create role somebody")
    for role in ("somebody", "marketplace_readonly"):
        for statements in (
            ("create temp table mine (a integer)", "alter table mine add column b integer"),
            ("create function pg_temp.one() returns integer return 1", "drop function pg_temp.one()"),
        ):
            assert refusal(db, role, *statements) is None, (role, statements)


def test_nothing_of_ones_own_gets_between_a_function_and_its_tables(db: Database) -> None:
    """Temp tables, and functions and operators of public, before everything on the search_path."""
    db.execute("grant create on schema public to marketplace_app")
    db.execute("create extension if not exists plpgsql")
    with db.transaction():
        db.execute("set local session authorization marketplace_app")
        for table in ("seller_transfers", "stripe_control", "reversal_requests", "currencies", "transfer_status_log"):
            db.execute(f"create temp table {table} (id bigint, note text)".encode())
        db.execute("create function public.format(text, text) returns text language sql as $$ select 'hijacked' $$")
        db.execute("create function public.length(varchar) returns integer language sql as $$ select 0 $$")
        db.execute("create function public.same(text, text) returns boolean language sql as $$ select true $$")
        db.execute("create operator public.= (leftarg = text, rightarg = text, function = public.same)")
        db.execute("set local search_path = pg_temp, public, pg_catalog")
        create_transfer(db)
        record_transfer(db, 2)
        db.execute("select * from marketplace.request_reversal('order-2', 're_2')")
        for table in ("seller_transfers", "stripe_control", "reversal_requests", "currencies", "transfer_status_log"):
            assert value(db, f"select pg_catalog.count(*) from pg_temp.{table}") == 0
        db.execute("reset session authorization")
        db.execute("reset search_path")
    found = rows(db, "select order_id, status from marketplace.seller_transfers order by id")
    assert [tuple(each.values()) for each in found] == [("order-1", "pending"), ("order-2", "reversal_pending")]


def test_a_dump_brings_guards_owners_and_rights_along_and_its_data_no_way_round(
    server_address: ServerAddress, dsn: str
) -> None:
    with open_database(dsn) as db:
        record_transfer(db)
        request_reversal(db)
        record_transfer(db, 2)
        before = contents(db)
    host, port, user = server_address.host, server_address.port, server_address.user
    with DatabaseJanitor(host=host, port=port, user=user, dbname="restored"):
        target = server_address.dsn("restored")
        assert restored(target, dumped(dsn)) == ""
        with open_session(target) as db:
            assert contents(db) == before
            assert rows(db, "select * from marketplace.self_check()") == []
            with pytest.raises(psycopg.Error) as refused:
                db.execute("update marketplace.seller_transfers set status = 'reversed' where status = 'completed'")
            assert refused.value.sqlstate == "ST001"
            with pytest.raises(psycopg.Error) as kept:
                db.execute("alter table marketplace.seller_transfers disable trigger user")
            assert kept.value.sqlstate == FORBIDDEN
            # The data once more, as `pg_restore --data-only` would bring it: rows are born, and not half-way.
            rows_only = dumped(dsn, "--data-only", "-t", "marketplace.seller_transfers")
            assert "born" in restored(target, rows_only)
            assert row(db, "select count(*) as n from marketplace.seller_transfers") == {"n": 2}
