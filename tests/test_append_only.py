"""Records stay as they were written: every statement that could change one, by every kind of role, on every table."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from tests.support.databases import Database, rows, value
from tests.support.raw_transfers import add_transfer, run
from tests.support.tampering import unguarded
from tests.support.transfers import contents

pytest_plugins = ("tests.support.rolled_back",)

FROZEN, DENIED = "ST002", "42501"

# Every table that keeps records, with a change of it that must not be, and its key. All but the last may only grow.
CHANGES = {
    "transfer_status_log": ("reason = 'forged'", "id"),
    "transfer_attempts": ("verdict = 'succeeded'", "id"),
    "prunings": ("reason = 'forged'", "id"),
    "stripe_control_log": ("reason = 'forged'", "id"),
    "reversal_requests": ("reason = 'manual'", "reversal_request_id"),
    "reversal_request_lines": ("asked = 999, met = 999", "reversal_request_id, transfer_id"),
    "stripe_events": ("payload = '{\"forged\": 1}'", "event_id"),
    "stripe_refunds": ("amount = 999", "refund_id"),
    "stripe_disputes": ("dispute_id = 'dp_forged'", "dispute_id"),
    "seller_transfers": ("original_amount = 999999", "id"),
    "stripe_control": ("database_id = gen_random_uuid()", "singleton"),
}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """At least one row in each table."""
    transfer_id = add_transfer(rolled_back_db, "completed")
    for statement in (
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        f" values ({transfer_id}, 'call', 'reverse', gen_random_uuid(), 'unknown', 'applied')",
        "insert into marketplace.prunings (reason, ended_before_at, orders, transfers, log_entries, log_sha256,"
        f" attempts, attempts_sha256) values ('moved', now(), 1, 1, 1, '{'0' * 64}', 0, '{'0' * 64}')",
        "insert into marketplace.stripe_control_log (change, reason) values ('account pinned', 'acct_1')",
        "insert into marketplace.reversal_request_lines (reversal_request_id, transfer_id, asked, met, unmet)"
        f" values ('re_raw', {transfer_id}, 1000, 1000, 0)",
        "insert into marketplace.stripe_events (event_id, type, state, payload)"
        " values ('evt_1', 'pending', 'ignored', '{}')",
        "insert into marketplace.stripe_refunds (refund_id, amount, currency, status)"
        " values ('re_1', 1, 'usd', 'pending')",
        "insert into marketplace.stripe_disputes (dispute_id, amount, currency, status)"
        " values ('dp_1', 1, 'usd', 'lost')",
    ):
        run(rolled_back_db, statement)
    return rolled_back_db


def columns(db: Database, table: str) -> list[str]:
    return [
        column["attname"]
        for column in rows(
            db,
            "select attname from pg_attribute where attrelid = %(table)s::regclass and attnum > 0 and not attisdropped"
            " order by attnum",
            table=f"marketplace.{table}",
        )
    ]


def statements(db: Database, table: str) -> dict[str, str]:
    """By name, statements that change or remove rows of the table."""
    change, key = CHANGES[table]
    name = f"marketplace.{table}"
    same = " and ".join(f"t.{column} = s.{column}" for column in key.split(", "))
    insert = f"insert into {name} ({', '.join(columns(db, table))}) overriding system value select * from {name}"
    tried = {
        "update": f"update {name} set {change}",
        "update of some": f"update {name} as t set {change} from {name} as s where {same}",
        "delete": f"delete from {name}",
        "delete using": f"delete from {name} as t using {name} as s where {same}",
        "truncate": f"truncate {name} cascade",
        "truncate with others": f"truncate marketplace.runners, {name} cascade",
        "upsert": f"{insert} on conflict ({key}) do update set {change}",
        "cte update": f"with forged as (update {name} set {change} returning 1) select * from forged",
        "cte delete": f"with gone as (delete from {name} returning *) insert into runners_of_nobody select 1 from gone",
        "function": f"do $$ begin execute 'delete from {name}'; end $$",
    }
    if db.info.server_version >= 150000:
        tried["merge update"] = (
            f"merge into {name} as t using {name} as s on {same} when matched then update set {change}"
        )
        tried["merge delete"] = f"merge into {name} as t using {name} as s on {same} when matched then delete"
    return tried


def refusal(db: Database, statement: str) -> str | None:
    """The SQLSTATE that the statement is refused with; None if it is not. Nothing of it stays."""
    try:
        with db.transaction(force_rollback=True):
            run(db, statement)
            run(db, "set constraints all immediate")
    except psycopg.Error as error:
        return error.sqlstate
    return None


@contextmanager
def superuser(db: Database) -> Iterator[None]:
    yield


@contextmanager
def superuser_as_replica(db: Database) -> Iterator[None]:
    run(db, "set local session_replication_role = replica")
    yield


@contextmanager
def owner(db: Database) -> Iterator[None]:
    run(db, "create role owner_here")
    run(db, "grant usage, create on schema marketplace to owner_here")
    run(db, "grant all on all tables in schema marketplace to owner_here")
    run(db, "grant execute on all functions in schema marketplace to owner_here")
    for table in CHANGES:
        run(db, f"alter table marketplace.{table} owner to owner_here")
    run(db, "set local role owner_here")
    yield


@contextmanager
def grantee(db: Database) -> Iterator[None]:
    run(db, "create role grantee_here")
    run(db, "grant usage on schema marketplace to grantee_here")
    run(db, "grant all on all tables in schema marketplace to grantee_here")
    run(db, "grant execute on all functions in schema marketplace to grantee_here")
    run(db, "set local role grantee_here")
    yield


@pytest.mark.parametrize("become", [superuser, superuser_as_replica, owner, grantee])
def test_no_statement_of_anybody_changes_a_record(
    db: Database, become: Callable[[Database], AbstractContextManager[None]]
) -> None:
    run(db, "create temporary table runners_of_nobody (n integer); grant all on runners_of_nobody to public")
    before = contents(db)
    tried = {table: statements(db, table) for table in CHANGES}
    with db.transaction(force_rollback=True), become(db):
        found = {(t, name): refusal(db, text) for t, texts in tried.items() for name, text in texts.items()}
    assert {key: state for key, state in found.items() if state != FROZEN} == {}
    assert len(found) >= 10 * len(CHANGES)
    assert contents(db) == before


def test_who_was_granted_nothing_gets_no_further_than_that(db: Database) -> None:
    run(db, "create temporary table runners_of_nobody (n integer); grant all on runners_of_nobody to public")
    tried = {table: statements(db, table) for table in CHANGES}
    run(db, "create role nobody_here")
    run(db, "grant usage on schema marketplace to nobody_here")
    run(db, "set local role nobody_here")
    found = {(t, name): refusal(db, text) for t, texts in tried.items() for name, text in texts.items()}
    assert {key: state for key, state in found.items() if state != DENIED} == {}
    for setting in ("replica", "local"):
        assert refusal(db, f"set local session_replication_role = {setting}") == DENIED


def test_copy_can_add_to_a_record_and_not_replace_it(db: Database) -> None:
    for table in CHANGES:
        with db.transaction(force_rollback=True):
            with db.cursor().copy(f"copy marketplace.{table} to stdout".encode()) as copied:
                taken = b"".join(bytes(block) for block in copied)
            before = value(db, f"select count(*) from marketplace.{table}")
            into = f"copy marketplace.{table} from stdin".encode()
            with pytest.raises(psycopg.Error) as refused, db.transaction(), db.cursor().copy(into) as copied:
                copied.write(taken)
            # A key that is there already; a birth that the state machine has not.
            assert refused.value.sqlstate in ("23505", "ST001"), table
            assert value(db, f"select count(*) from marketplace.{table}") == before


def test_neither_a_view_nor_a_rule_leads_round_the_guards(db: Database) -> None:
    for table, (change, _) in CHANGES.items():
        name = f"marketplace.{table}"
        run(db, f"create view public.seen_{table} as select * from {name}")
        assert refusal(db, f"update public.seen_{table} set {change}") == FROZEN
        assert refusal(db, f"delete from public.seen_{table}") == FROZEN
        run(db, f"create table public.bait_{table} (n integer)")
        run(db, f"create rule hooked as on insert to public.bait_{table} do also delete from {name}")
        assert refusal(db, f"insert into public.bait_{table} values (1)") == FROZEN


def test_a_table_put_above_a_record_reaches_none_of_its_rows(db: Database) -> None:
    for table, (change, _) in CHANGES.items():
        name, above = f"marketplace.{table}", f"public.above_{table}"
        run(db, f"create table {above} (like {name})")
        run(db, f"alter table {name} inherit {above}")
        for statement in (
            f"delete from {above}",
            f"update {above} set {change}",
            f"truncate {above} cascade",
            f"with gone as (delete from {above} returning 1) select * from gone",
        ):
            assert refusal(db, statement) == FROZEN, statement
        run(db, f"alter table {name} no inherit {above}")


def test_a_record_made_a_partition_keeps_its_rows(db: Database) -> None:
    table = "stripe_refunds"  # one without an identity, which no partition may have before PostgreSQL 17
    change, _ = CHANGES[table]
    run(db, f"create table public.whole (like marketplace.{table}) partition by list (currency)")
    run(db, "create table public.eur partition of public.whole for values in ('eur')")
    run(db, f"alter table public.whole attach partition marketplace.{table} default")
    for statement in (
        "delete from public.whole",
        f"update public.whole set {change}",
        "update public.whole set currency = 'eur'",  # which would move the rows to the other one
        "truncate public.whole",
    ):
        assert refusal(db, statement) == FROZEN, statement


def test_a_foreign_key_cascades_into_no_record(db: Database) -> None:
    children = {
        "transfer_status_log": "fk_transfer_status_log_transfer",
        "transfer_attempts": "fk_transfer_attempts_transfer",
        "reversal_request_lines": "fk_reversal_request_lines_transfer",
    }
    transfer_id = value(db, "select id from marketplace.seller_transfers")
    for table in children:
        for does in ("cascade", "set null"):
            with db.transaction(force_rollback=True):
                # The row's own guards are gone, and other keys; what hangs on it has guards of its own.
                run(db, "alter table marketplace.seller_transfers disable trigger user")
                for other, key in children.items():
                    run(db, f"alter table marketplace.{other} drop constraint {key}")
                run(
                    db,
                    f"alter table marketplace.{table} add constraint fk_here foreign key (transfer_id)"
                    f" references marketplace.seller_transfers (id) on delete {does} on update {does}",
                )
                for act in (
                    f"delete from marketplace.seller_transfers where id = {transfer_id}",
                    f"update marketplace.seller_transfers set id = id + 1000 where id = {transfer_id}",
                ):
                    assert refusal(db, act) == FROZEN, (table, does, act)


def test_with_the_guards_gone_each_of_these_would_have_worked(db: Database) -> None:
    # So it is the guards that refuse, and not something else about the statements.
    for table, (change, _) in CHANGES.items():
        if table == "stripe_control":
            continue
        with db.transaction(force_rollback=True), unguarded(db, *CHANGES):
            changed = db.execute(f"update marketplace.{table} set {change}".encode())
            assert changed.rowcount > 0, table
            gone = db.execute(f"delete from marketplace.{table}".encode())
            assert gone.rowcount == changed.rowcount, table
