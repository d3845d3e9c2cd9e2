"""Old history leaves by one door: exported, verified, recorded, whole orders at a time; and nothing else can use it."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, rows
from tests.support.raw_transfers import add_transfer, run
from tests.support.sessions import wait_until_blocked
from tests.support.tampering import let_years_pass, tamper
from tests.support.transfers import (
    attempts,
    call,
    claim,
    claimed_send,
    contents,
    create_transfer,
    record_one,
    record_transfer,
    request_parts,
    request_reversal,
    sent,
    status_log,
    success,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)

BEFORE = "now() - interval '100 days'"


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def paid_and_reversed(db: Database, n: int = 1) -> int:
    """Transfer number `n`, sent, refunded and taken back. Returns its id."""
    record_one(db, sent(claimed_send(db, n)))
    request_reversal(db, n)
    (leased,) = claim(db)
    record_one(db, success(leased))
    return int(leased["id"])


def exported(db: Database, limit: int = 1000) -> tuple[bytes, bytes]:
    """The two files that the README's statement makes."""

    def export(source: str) -> bytes:
        statement = (
            f"copy (select line from marketplace.prunable_history(p_before => {BEFORE}, p_limit => {limit})"
            f" where source = '{source}') to stdout with (format csv, delimiter e'\\x01', quote e'\\x02')"
        )
        with db.cursor().copy(statement.encode()) as copied:
            return b"".join(bytes(block) for block in copied)

    return export("transfer_status_log"), export("transfer_attempts")


def prune(db: Database, files: tuple[bytes, bytes], limit: int = 1000, before: str = BEFORE) -> list[DictRow]:
    log_sha256, attempts_sha256 = (hashlib.sha256(file).hexdigest() for file in files)
    return rows(
        db,
        f"select * from marketplace.prune_history(p_before => {before}, p_log_sha256 => %(log)s,"
        " p_attempts_sha256 => %(attempts)s, p_reason => 'kept in the archive', p_limit => %(limit)s)",
        log=log_sha256,
        attempts=attempts_sha256,
        limit=limit,
    )


def export_and_prune(db: Database) -> DictRow:
    (pruning,) = prune(db, exported(db))
    return pruning


def steps(db: Database, transfer_id: int) -> list[tuple[str | None, str]]:
    return [(entry["from_status"], entry["to_status"]) for entry in status_log(db, transfer_id)]


def problems(db: Database) -> list[str]:
    return [found["problem"] for found in call(db, "verify_log")]


def test_what_is_over_leaves_and_its_rows_stay_as_they_are(db: Database) -> None:
    transfer_id = paid_and_reversed(db)
    let_years_pass(db)
    before = transfer(db, transfer_id)
    log, tries = status_log(db, transfer_id), attempts(db, transfer_id)
    files = exported(db)

    (pruning,) = prune(db, files)

    assert transfer(db, transfer_id) == before
    assert steps(db, transfer_id) == [("reversed", "reversed")]
    assert attempts(db, transfer_id) == []
    assert problems(db) == []
    assert {name: pruning[name] for name in ("orders", "transfers", "log_entries", "attempts", "reason")} == {
        "orders": 1,
        "transfers": 1,
        "log_entries": len(log),
        "attempts": len(tries),
        "reason": "kept in the archive",
    }
    assert (pruning["first_logged_at"], pruning["last_logged_at"]) == (log[0]["logged_at"], log[-1]["logged_at"])
    assert pruning["pruned_by"] == db.info.user
    assert row(db, "select * from marketplace.prunings") == pruning
    # The export has all of it, and its digest is on record.
    lines = [json.loads(line) for line in files[0].splitlines()]
    assert [line["to_status"] for line in lines] == ["pending", "completed", "reversal_pending", "reversed"]
    assert lines[0].keys() == log[0].keys()
    assert [json.loads(line)["verdict"] for line in files[1].splitlines()] == ["succeeded", "succeeded"]
    assert pruning["log_sha256"] == hashlib.sha256(files[0]).hexdigest()


def test_the_export_can_be_read_back_into_rows(db: Database) -> None:
    transfer_id = paid_and_reversed(db)
    run(db, "set local timezone = 'America/New_York'")
    let_years_pass(db)
    lines = exported(db)[0].decode().splitlines()
    read = rows(
        db,
        "select r.* from unnest(%(lines)s::text[]) as l"
        " cross join lateral json_populate_record(null::marketplace.transfer_status_log, l::json) as r",
        lines=lines,
    )
    assert read == status_log(db, transfer_id)


def test_the_log_goes_on_after_a_pruning_and_may_be_pruned_again(db: Database) -> None:
    transfer_id = record_transfer(db)["id"]
    let_years_pass(db)
    first = export_and_prune(db)
    assert prune(db, (b"", b"")) == []  # nothing is left to take
    request_reversal(db)
    (leased,) = claim(db)
    record_one(db, success(leased))
    assert steps(db, transfer_id) == [
        ("completed", "completed"),
        ("completed", "reversal_pending"),
        ("reversal_pending", "reversed"),
    ]
    assert problems(db) == []
    let_years_pass(db)
    second = export_and_prune(db)
    assert (first["log_entries"], second["log_entries"]) == (1, 3)
    assert [entry["pruning_id"] for entry in status_log(db, transfer_id)] == [second["id"]]
    assert problems(db) == []


def test_only_orders_that_are_over_go_and_each_goes_whole(db: Database) -> None:
    paid_and_reversed(db, 1)
    record_transfer(db, 2)
    # Order 3: a slice of it is still to be taken back. Order 4: nothing is open, but its money moved twice.
    record_transfer(db, 3)
    request_parts(db, {"key-3": 300}, "re_3", p_order_id="order-3")
    twice = record_transfer(db, 4)["id"]
    run(
        db,
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        f" values ({twice}, 'call', 'reverse', gen_random_uuid(), 'moved_twice', 'late')",
    )
    (moved,) = rows(db, "select problem_id from marketplace.needs_attention_full where problem = 'moved_twice'")
    call(db, "dismiss", p_problem_id=moved["problem_id"], p_reason="It was given back.")  # and stays on record
    record_transfer(db, 5, p_stripe_transfer_id=None)  # somebody has to say which transfer it is
    create_transfer(db, 6)
    let_years_pass(db)
    record_transfer(db, 7)
    record_transfer(db, 8)
    tamper(
        db, "update marketplace.seller_transfers set updated_at = now() - interval '1 year' where order_id = 'order-8'"
    )
    gone = rows(
        db,
        f"select distinct (line::json ->> 'transfer_id')::bigint as id from marketplace.prunable_history({BEFORE})",
    )
    orders = {transfer(db, found["id"])["order_id"] for found in gone}
    assert orders == {"order-1", "order-2"}
    assert export_and_prune(db)["orders"] == 2
    assert {t["order_id"] for t in rows(db, "select * from marketplace.seller_transfers")} == {
        f"order-{n}" for n in range(1, 9)
    }


def test_an_order_goes_with_all_of_its_transfers_or_not_at_all(db: Database) -> None:
    record_transfer(db, 1)
    record_transfer(db, 2, p_order_id="order-1")
    record_transfer(db, 3)
    let_years_pass(db)
    record_transfer(db, 4, p_order_id="order-3")
    pruning = export_and_prune(db)
    assert (pruning["orders"], pruning["transfers"]) == (1, 2)


def test_as_many_orders_go_as_asked_for_the_oldest_first(db: Database) -> None:
    ids = [record_transfer(db, n)["id"] for n in (1, 2, 3)]
    let_years_pass(db)
    (pruning,) = prune(db, exported(db, 2), 2)
    assert pruning["orders"] == 2
    assert [status_log(db, each)[0]["pruning_id"] for each in ids] == [pruning["id"], pruning["id"], None]


def test_nothing_goes_that_was_not_exported(db: Database) -> None:
    paid_and_reversed(db)
    let_years_pass(db)
    log, tries = exported(db)
    before = contents(db)
    for files, column in {
        (log + b"\n", tries): "p_log_sha256",
        (b"", tries): "p_log_sha256",
        (log, b""): "p_attempts_sha256",
    }.items():
        with pytest.raises(psycopg.errors.InvalidParameterValue) as refused, db.transaction():
            prune(db, files)
        assert (refused.value.diag.column_name, bool(refused.value.diag.message_hint)) == (column, True)
    assert contents(db) == before


def test_nothing_goes_that_does_not_bear_out_its_rows(db: Database) -> None:
    paid_and_reversed(db)
    let_years_pass(db)
    tamper(db, "delete from marketplace.transfer_status_log where to_status = 'completed'")
    files = exported(db)
    before = contents(db)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused, db.transaction():
        prune(db, files)
    assert refused.value.diag.message_hint
    assert contents(db) == before


def test_what_is_young_stays(db: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused, db.transaction():
        prune(db, (b"", b""), before="now() - interval '89 days'")
    assert refused.value.diag.column_name == "p_before"


def record_of_nothing(db: Database, log: bytes = b"", tries: bytes = b"") -> int:
    """A record of a pruning, written by hand in this transaction. Returns its id."""
    digests = [hashlib.sha256(each).hexdigest() for each in (log, tries)]
    written = row(
        db,
        "insert into marketplace.prunings (reason, ended_before_at, orders, transfers, log_entries, log_sha256,"
        " attempts, attempts_sha256) values ('by hand', now(), 1, 1, 1, %(log)s, 0, %(tries)s) returning id",
        log=digests[0],
        tries=digests[1],
    )
    return int(written["id"])


def opened(db: Database, transfer_id: int, pruning_id: int) -> None:
    run(
        db,
        "insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, pruning_id)"
        f" select id, status, status, {pruning_id} from marketplace.seller_transfers where id = {transfer_id}",
    )


def deleted(db: Database, table: str, where: str) -> str | None:
    """The SQLSTATE that the owner, superuser besides, gets for deleting."""
    try:
        with db.transaction(force_rollback=True):
            run(db, f"delete from marketplace.{table} where {where}")
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_the_guards_let_go_of_what_is_on_record_to_the_byte_and_of_nothing_else(db: Database) -> None:
    ours, other = paid_and_reversed(db, 1), paid_and_reversed(db, 2)
    let_years_pass(db)
    log, tries = exported(db)
    own_log = b"".join(line for line in log.splitlines(True) if json.loads(line)["transfer_id"] == ours)
    own_tries = b"".join(line for line in tries.splitlines(True) if json.loads(line)["transfer_id"] == ours)
    of_ours = f"transfer_id = {ours} and pruning_id is null"
    assert deleted(db, "transfer_status_log", of_ours) == "ST002"

    pruning_id = record_of_nothing(db, own_log, own_tries)
    assert deleted(db, "transfer_status_log", of_ours) == "ST002"  # its log was not opened anew
    opened(db, ours, pruning_id)
    assert deleted(db, "transfer_status_log", of_ours) is None
    assert deleted(db, "transfer_attempts", f"transfer_id = {ours}") is None
    # Not all of it, more than it, its own entry, another transfer's.
    assert deleted(db, "transfer_status_log", f"{of_ours} and to_status <> 'pending'") == "ST002"
    assert deleted(db, "transfer_attempts", f"transfer_id = {ours} and action = 'send'") == "ST002"
    assert deleted(db, "transfer_status_log", f"transfer_id = {ours}") == "ST002"
    assert deleted(db, "transfer_status_log", "pruning_id is not null") == "ST002"
    assert deleted(db, "transfer_status_log", f"transfer_id = {other}") == "ST002"
    assert deleted(db, "transfer_attempts", f"transfer_id = {other}") == "ST002"
    # Opened anew for all of them, it is still only what is on record.
    opened(db, other, pruning_id)
    assert deleted(db, "transfer_status_log", "pruning_id is null") == "ST002"
    assert deleted(db, "transfer_attempts", "true") == "ST002"


@pytest.mark.parametrize(
    "later",
    ["transaction_id = (transaction_id::text::bigint + 1)::text::xid8", "began_at = began_at - interval '1 second'"],
)
def test_a_record_of_another_transaction_lets_go_of_nothing(db: Database, later: str) -> None:
    transfer_id = paid_and_reversed(db)
    let_years_pass(db)
    opened(db, transfer_id, record_of_nothing(db, *exported(db)))
    of_it = f"transfer_id = {transfer_id} and pruning_id is null"
    assert deleted(db, "transfer_status_log", of_it) is None
    run(db, "alter table marketplace.prunings disable trigger user")
    run(db, f"update marketplace.prunings set {later}")
    assert deleted(db, "transfer_status_log", of_it) == "ST002"


def test_what_a_pruning_left_is_no_cover_for_more(db: Database) -> None:
    first, second = paid_and_reversed(db, 1), add_transfer(db, "reversed", order_id="order-2")
    let_years_pass(db)
    (pruning,) = prune(db, exported(db, 1), 1)
    assert problems(db) == []
    made_up = f"null, 'reversed', 'reversed', {pruning['id']}"
    too_many = f"pruning {pruning['id']} took 1 transfers, and 2 have an entry that says so"
    forgeries: dict[str, list[str]] = {
        # A history that went past the guards, with an entry that blames the pruning for it.
        f"delete from marketplace.transfer_status_log where transfer_id = {second};"
        " insert into marketplace.transfer_status_log (transfer_id, reason, from_status, to_status, pruning_id)"
        f" values ({second}, {made_up})": [
            f"pruning {pruning['id']} took 1 transfers, and 2 have an entry that says so"
        ],
        f"update marketplace.transfer_status_log set from_status = 'completed' where transfer_id = {first}": [
            f"pruning {pruning['id']} changed the status"
        ],
        "insert into marketplace.transfer_status_log (transfer_id, reason, from_status, to_status, pruning_id)"
        f" values ({first}, {made_up})": [
            f"pruning {pruning['id']} left entries before it",
            too_many,
        ],
    }
    for statement, expected in forgeries.items():
        with db.transaction(force_rollback=True):
            tamper(db, statement)
            assert problems(db) == expected, statement


def test_a_pruning_waits_for_who_is_changing_one_of_its_rows(connect: Connect) -> None:
    db, other, observer = connect(), connect(), connect()
    transfer_id = record_transfer(db)["id"]
    let_years_pass(db)
    files = exported(db)
    before = contents(db)
    other.execute("begin")
    request_reversal(other)
    with ThreadPoolExecutor(1) as pool:
        pruned = pool.submit(prune, db, files)
        wait_until_blocked(observer, db)
        other.execute("commit")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            pruned.result(20)
    assert contents(db)["prunings"] == before["prunings"]
    assert steps(db, transfer_id) == [(None, "completed"), ("completed", "reversal_pending")]


def test_a_pruning_that_is_not_committed_leaves_everything(connect: Connect) -> None:
    db = connect()
    paid_and_reversed(db)
    let_years_pass(db)
    before = contents(db)
    with db.transaction(force_rollback=True):
        export_and_prune(db)
        assert contents(db) != before
    assert contents(db) == before
