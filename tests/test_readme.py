"""The README says nothing that is not so: its diagram, its error table, its SQL, its settings."""

import re
from pathlib import Path

import psycopg
import psycopg.errors
from psycopg.rows import DictRow

from runner.settings import Settings
from tests.support.databases import Database
from tests.support.look_ups import foreign, ours, pass_time, seen
from tests.support.readme import README, with_generated_parts
from tests.support.transfers import (
    claim,
    claim_again,
    claimed_call,
    record_one,
    refusal,
    success,
    timeout,
    transfer,
)

DB = Path(__file__).resolve().parents[1] / "db"
TEXT = README.read_text("utf-8")


def sqlstates_raised() -> set[str]:
    """Every errcode in db/, as a SQLSTATE."""
    found = set()
    for path in DB.rglob("*.sql"):
        for using in re.findall(r"errcode\s*=\s*(.*?)hint\s*=", path.read_text("utf-8"), re.DOTALL):
            for code in re.findall(r"'([A-Za-z_0-9]+)'", using):
                found.add(code if re.fullmatch(r"[0-9A-Z]{5}", code) else condition_sqlstate(code))
    return found


def condition_sqlstate(condition: str) -> str:
    error = getattr(psycopg.errors, "".join(part.capitalize() for part in condition.split("_")))
    return str(error.sqlstate)


def sqlstates_listed() -> tuple[set[str], set[str]]:
    """SQLSTATEs of the error table: raised by this schema, and PostgreSQL's own."""
    [table] = re.findall(r"<!-- errors -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    own: set[str] = set()
    native: set[str] = set()
    for row in table.splitlines()[2:]:
        first, meaning, *_ = row.strip("|").split("|")
        (native if "PostgreSQL's own" in meaning else own).update(re.findall(r"`([0-9A-Z]{5})`", first))
    return own, native


def test_the_error_table_lists_exactly_what_the_functions_raise() -> None:
    own, native = sqlstates_listed()
    assert own == sqlstates_raised()
    assert native
    assert not own & native
    assert all(not code.endswith("000") for code in own if code.startswith("ST"))


def test_every_error_raised_has_a_hint() -> None:
    raised = 0
    for path in DB.rglob("*.sql"):
        for statement in re.findall(r"raise exception .*?;\s*\n", path.read_text("utf-8"), re.DOTALL):
            raised += 1
            assert re.search(r"hint\s*=", statement), f"{path.name}: {statement}"
    assert raised > 20


def test_the_state_diagram_is_the_one_the_database_draws(db: psycopg.Connection[DictRow]) -> None:
    assert with_generated_parts(TEXT, db) == TEXT, "run: make docs"
    assert TEXT.count("reversal_pending --> reversed\n") == 1


def test_every_sql_block_runs_as_it_stands(db: psycopg.Connection[DictRow]) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        db.execute(block.encode())
    assert db.execute("select problem, object, detail from marketplace.self_check()").fetchall() == []
    db.execute("drop role shop_app; drop role shop_runner; drop role anna")
    rows = db.execute(
        "select transfer_key, amount, status, failure_code from marketplace.seller_transfers order by id"
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("o-1001/s-7", 5411, "permanently_failed", "request_withdrawn"),
        ("o-1001/s-8", 1039, "permanently_failed", "refunded_before_transfer"),
        (None, 2000, "reversal_pending", None),
        (None, 839, "reversal_pending", None),
        (None, 161, "permanently_failed", "refunded_before_transfer"),
        (None, 5411, "completed", None),
        (None, 1039, "pending", None),
    ]


def test_a_login_for_triage_may_do_all_that_is_shown_for_psql(db: Database) -> None:
    block = re.search(r"\n## Looking around with psql\n.*?```sql\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    db.execute("set role marketplace_triage")
    try:
        db.execute(block[1].encode())
    finally:
        db.execute("reset role")


def triage(db: Database, comment: str, transfer_id: int) -> None:
    """Run the statement under this comment, for a row."""
    [statement] = re.findall(rf"^-- {comment}.*\n([^;]*;)", TEXT, re.MULTILINE)
    assert db.execute(statement.replace("where id = 1 ", f"where id = {transfer_id} ").encode()).rowcount == 1


def test_a_row_parked_for_moving_twice_can_be_ended_by_hand(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 hours")
    looked = claim_again(db, leased["id"])
    one, two = "trr_a", "trr_1PgdA2B7WZ01zgkWc5Yt0LmE"
    record_one(db, seen(looked, ours(db, looked, one), ours(db, looked, two), amount=2000))

    triage(db, "Or end it", leased["id"])

    row = transfer(db, leased["id"])
    assert (row["status"], row["stripe_reversal_id"]) == ("reversed", two)
    assert (row["parked_reason"], row["failure_code"], row["call_unknown"]) == (None, None, False)


def test_a_row_parked_for_a_mismatch_is_looked_up_when_it_is_tried_again(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, success(leased, amount=1))

    triage(db, "After you have looked at Stripe", leased["id"])

    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    assert record_one(db, seen(looked, foreign(looked, "trr_f", 1), amount=1001))["verdict"] == "absent"


def test_a_row_parked_for_a_conflict_takes_a_new_key_once_the_old_one_is_20_hours_old(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, error_type="idempotency_error"))
    pass_time(db, leased["id"], "20 hours 1 second")

    triage(db, "After you have looked at Stripe", leased["id"])

    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    record_one(db, seen(looked))
    (again,) = claim(db)
    assert again["idempotency_key"] == leased["idempotency_key"][:-1] + "2"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| .* \| (.*?) ?\|$", TEXT, re.MULTILINE))
    fields = Settings.model_fields
    names = {
        ("" if name in ("database_url", "stripe_api_key", "stripe_webhook_secret") else "SELLER_TRANSFERS_")
        + name.upper(): name
        for name in fields
    }
    assert set(listed) == set(names)
    webhook = ("WEBHOOK_HOST", "WEBHOOK_PORT", "WEBHOOK_BODY_LIMIT", "WEBHOOK_CONNECTIONS")
    for variable in ("SLOTS", "LEASE_SECONDS", "CALL_DEADLINE_SECONDS", "POLL_SECONDS", "LOG_LEVEL", *webhook):
        default = fields[variable.lower()].default
        assert listed[f"SELLER_TRANSFERS_{variable}"].strip("`") == str(default)
