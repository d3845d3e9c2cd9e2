"""docs/retention.md, followed to the letter."""

import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from runner.sandbox.postgres_binaries import find_binaries
from tests.support.databases import Database, row, rows, value
from tests.support.tampering import let_years_pass
from tests.support.transfers import claimed_send, record_one, record_transfer, sent, status_log

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "retention.md").read_text("utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
SQL = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def typed(dsn: str, folder: Path, script: str) -> str:
    """What a person sees who types this, connected as the owner."""
    where = conninfo_to_dict(dsn)
    environment = {
        "PATH": f"{find_binaries(16)}:{os.environ['PATH']}",
        "PGHOST": str(where["host"]),
        "PGPORT": str(where["port"]),
        "PGUSER": str(where["user"]),
        "PGDATABASE": str(where["dbname"]),
    }
    run = subprocess.run(
        ["sh", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    return run.stdout


def test_the_way_to_shed_history_works_as_it_is_written(db: Database, dsn: str, tmp_path: Path) -> None:
    paid = claimed_send(db)
    record_one(db, sent(paid))
    record_transfer(db, 2, p_seller_id='"quoted", \\ and ö')
    let_years_pass(db, 20)
    young = record_transfer(db, 3)["id"]
    export, prune, look = SHELL

    said = typed(dsn, tmp_path, export + prune)

    assert re.search(r"\|\s+2 \|\s+3 \|\s+1\n", said)  # orders, log entries, attempts
    (pruning,) = rows(db, "select * from marketplace.prunings")
    for kind, column in {"log": "log_sha256", "attempts": "attempts_sha256"}.items():
        (file,) = tmp_path.glob(f"{kind}-*.jsonl")
        assert sha256(file.read_bytes()).hexdigest() == pruning[column]
    assert value(db, "select count(*) from marketplace.verify_log()") == 0
    assert [entry["from_status"] for entry in status_log(db, young)] == [None]
    assert typed(dsn, tmp_path, look.replace(":1,", f":{paid['id']},")).count('"from_status":') == 2
    # Again: there is nothing left that is old enough.
    again = typed(dsn, tmp_path, export + prune)
    assert "(0 rows)" in again
    assert row(db, SQL[0])["orders"] == 2


def test_what_was_exported_can_be_had_back_as_rows(db: Database) -> None:
    into, copy, out_of = re.split(r"^-- \\(copy .*)\n", SQL[1], flags=re.MULTILINE)
    transfer_id = record_transfer(db)["id"]
    line = value(db, "select row_to_json(l)::text from marketplace.transfer_status_log as l")
    db.execute(into.encode())
    with db.cursor().copy(re.sub(r"'log-.*jsonl'", "stdin", copy).encode()) as copied:
        copied.write(line)
    db.execute(out_of.encode())
    assert rows(db, "select * from old_log") == status_log(db, transfer_id)


def test_no_block_is_left_out() -> None:
    assert (len(SHELL), len(SQL)) == (3, 2)
