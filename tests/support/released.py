"""Notes what a release is made of, and keeps a database as it leaves them: `python -m tests.support.released`.

Run once, when a release is made: db/migrations/released.sha256 gets the files that are not in it yet, and
tests/snapshots/ a database of that release with something in every table, for later ones to be upgraded from, and what
its runners call, for later functions to be called by them.
"""

import gzip
import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from runner.migration_files import file_sha256, released_file, released_sha256
from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.schema import db_folder, migration_ids, own_version
from tests.support.databases import Database, open_database, value
from tests.support.events import charge, dispute, event, ingest, refund
from tests.support.migrations import migrate_database
from tests.support.stripe_lists import compared, listed_transfer
from tests.support.transfers import (
    call,
    claim,
    claim_sends,
    claimed_call,
    claimed_send,
    create_transfer,
    record_one,
    record_transfer,
    refusal,
    request_parts,
    request_reversal,
    sent,
    success,
    timeout,
)

REPOSITORY = Path(__file__).resolve().parents[2]
SNAPSHOTS = REPOSITORY / "tests" / "snapshots"


def something_of_everything(db: Database) -> None:
    """Transfers of every status, in parts and whole, known and unknown, leased; events acted on and kept."""
    record_one(db, sent(claimed_send(db, 1)))
    record_one(db, refusal(claimed_send(db, 2), code="account_invalid"))
    record_one(db, timeout(claimed_send(db, 3)))
    record_one(db, success(claimed_call(db, 4)))
    record_one(db, timeout(claimed_call(db, 5)))
    record_one(db, refusal(claimed_call(db, 6), 404, "resource_missing"))
    record_transfer(db, 7)
    request_parts(db, {"key-7": 300}, "re_7", p_order_id="order-7")
    record_one(db, success(claim(db)[0], "trr_7a"))
    record_one(db, refusal(claimed_call(db, 8), code="balance_insufficient"))
    record_one(db, refusal(claimed_call(db, 12), 400, error_type="idempotency_error"))
    record_one(db, success(claimed_call(db, 9)))
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_9", p_reason="The refund failed.")
    create_transfer(db, 10)
    request_reversal(db, 10)
    create_transfer(db, 11)
    claim_sends(db, 1)
    request_parts(db, {"key-7": 200}, "re_7b", p_order_id="order-7")
    call(db, "set_refunds_by", p_who="events", p_reason="Stripe tells first.")
    ingest(db, event("charge.succeeded", charge(transfer_group="order-1")))
    ingest(db, event("refund.created", refund("re_101")))
    ingest(db, event("refund.created", refund("re_102", charge="ch_unknown")))
    ingest(db, event("charge.dispute.created", dispute()))
    compared(db, listed_transfer(1))
    problem = "select problem_id from marketplace.needs_attention_full where problem = 'differs from Stripe'"
    call(db, "dismiss", p_problem_id=value(db, problem), p_reason="It was looked at.")
    call(db, "pause_stripe_calls", p_reason="A release is made.")
    call(db, "resume_stripe_calls", p_reason="It is made.")


def dump_of(dsn: str, bindir: Path) -> str:
    """A database in SQL that any connection can run on any server that this schema runs on; yoyo's tables too."""
    # yoyo's log names the machine and the user.
    command = [bindir / "pg_dump", "--inserts", "--no-owner", "--exclude-table-data=public._yoyo_log", dsn]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True)
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("\\"))


def released_databases() -> list[Path]:
    """What was kept of earlier releases, the first one first."""
    return sorted(SNAPSHOTS.glob("released-*.sql.gz"))


def restore(dsn: str, path: Path) -> None:
    """Make an empty database what one of an earlier release was."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(gzip.decompress(path.read_bytes()))


def runner_statements() -> list[str]:
    """Every statement that runners and webhooks send for as long as they run, with $1 and so on for its arguments.

    What is only read, by commands that end at once, is of the release that they have checked.
    """
    text = re.sub(r'"\s*"', "", (REPOSITORY / "runner" / "database.py").read_text(encoding="utf-8"))
    found = re.findall(r'"(SELECT \* FROM marketplace\.(?!read_|self_check)[^"]+)"', text)
    return [_numbered(statement) for statement in sorted(set(found))]


def _numbered(statement: str) -> str:
    pieces = statement.split("%s")
    return "".join(f"{piece}${number}" for number, piece in enumerate(pieces[:-1], start=1)) + pieces[-1]


def columns_of(db: Database, statement: str) -> list[str]:
    """What the statement would give, asked without running it. Raises psycopg.Error if it is none here."""
    for result in (db.pgconn.prepare(b"", statement.encode()), db.pgconn.describe_prepared(b"")):
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.lookup((result.error_field(DiagnosticField.SQLSTATE) or b"").decode())(statement)
    given = [(result.fname(number) or b"", result.ftype(number)) for number in range(result.nfields)]
    return [f"{name.decode()} {value(db, 'select %(oid)s::regtype::text', oid=oid)}" for name, oid in given]


def released_runners() -> dict[str, dict[str, list[str]]]:
    """For each release the statements of its runners, and the columns they expect."""
    paths = SNAPSHOTS.glob("runner-*.json")
    return {path.stem.removeprefix("runner-"): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def main() -> None:
    """Append to released.sha256, and keep a database of this release and what its runners call."""
    folder = db_folder()
    known = released_sha256(folder) if released_file(folder).exists() else {}
    with released_file(folder).open("a", encoding="utf-8") as file:
        for migration_id in migration_ids(folder):
            if migration_id not in known:
                file.write(f"{file_sha256(folder, migration_id)}  {migration_id}.sql\n")
    target = SNAPSHOTS / f"released-{migration_ids(folder)[-1][:4]}.sql.gz"
    SNAPSHOTS.mkdir(exist_ok=True)
    with EmbeddedPostgres() as server:
        migrate_database(server.dsn())
        with closing(open_database(server.dsn())) as db:
            something_of_everything(db)
            calls = {statement: columns_of(db, statement) for statement in runner_statements()}
        runner_file = SNAPSHOTS / f"runner-{own_version()}.json"
        runner_file.write_text(json.dumps(calls, indent=1) + "\n", encoding="utf-8")
        target.write_bytes(gzip.compress(dump_of(server.dsn(), server.bindir).encode(), mtime=0))


if __name__ == "__main__":
    main()
