"""Whoever is refused is told what to call instead, and that there is."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.support.databases import Database, rows
from tests.support.raw_transfers import STATUSES, add_transfer, enter, outcome, run
from tests.support.transfers import at_commit, call, record_transfer, request_parts

pytest_plugins = ("tests.support.rolled_back",)

DB = Path(__file__).resolve().parents[1] / "db"
RAISED = re.compile(r"raise exception (.*?);[^\S\n]*\n", re.DOTALL)
# A name with its bracket, as in "reopen(p_id => …)" or "add_note()".
OF_POSTGRESQL = {"pg_control_system", "pg_current_wal_lsn", "pg_walfile_name"}
CALL = re.compile(r"\b([a-z][a-z_]+)\((?:p_|\))")

# What an owner may try by hand, and which call says it instead.
DIRECT = {
    "update marketplace.transfer_status_log set reason = 'x'": "add_note",
    "delete from marketplace.transfer_status_log": "add_note",
    "truncate marketplace.transfer_status_log": "add_note",
    "update marketplace.transfer_attempts set verdict = 'x'": "add_note",
    "truncate marketplace.transfer_attempts": "add_note",
    "delete from marketplace.seller_transfers": "give_up",
    "truncate marketplace.seller_transfers cascade": "give_up",
    "update marketplace.seller_transfers set order_id = 'order-9'": "create_transfer",
    "update marketplace.seller_transfers set amount = amount + 1": "request_reversal",
    "update marketplace.seller_transfers set stripe_transfer_id = 'tr_9'": "reopen",
    "update marketplace.seller_transfers set status = 'pending' where status = 'completed'": "reopen",
    "update marketplace.seller_transfers set status = 'reversed' where status = 'completed'": "mark_reversed",
    "update marketplace.seller_transfers set status = 'permanently_failed' where status = 'completed'": "give_up",
    "update marketplace.seller_transfers set status = 'completed' where status = 'reversal_pending'": "reopen",
    "update marketplace.seller_transfers set call_part = 9 where status = 'reversal_pending'": "reopen",
    "update marketplace.reversal_requests set order_id = 'order-9'": "withdraw_reversal_request",
    "delete from marketplace.reversal_requests": "withdraw_reversal_request",
    "truncate marketplace.reversal_requests cascade": "withdraw_reversal_request",
    "delete from marketplace.reversal_request_lines": "withdraw_reversal_request",
    "update marketplace.reversal_request_lines set asked = 1": "withdraw_reversal_request",
    "delete from marketplace.stripe_events": "dismiss",
    "truncate marketplace.stripe_events": "dismiss",
    "delete from marketplace.stripe_control": "pause_stripe_calls",
}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def hints() -> list[tuple[str, str]]:
    """File and text of everything that is raised, from its HINT on."""
    found = []
    for path in sorted(DB.rglob("*.sql")):
        for raised in RAISED.findall(path.read_text("utf-8")):
            assert re.search(r"hint\s*=\s*\S", raised), f"{path.name}: {raised}"
            found.append((path.name, re.split(r"hint\s*=", raised, maxsplit=1)[1]))
    return found


def test_everything_that_is_raised_has_a_hint() -> None:
    assert len(hints()) > 80


def test_every_call_that_a_hint_names_is_there(db: Database) -> None:
    there = {
        each["proname"]
        for each in rows(db, "select proname from pg_proc where pronamespace = 'marketplace'::regnamespace")
    }
    texts = [(file, text) for file, hint in hints() for text in re.findall(r"'((?:[^']|'')*)'", hint)]
    named = [(file, name) for file, text in texts for name in CALL.findall(text)]
    assert len(named) > 10
    assert {name for _, name in named} - there <= OF_POSTGRESQL


@pytest.mark.parametrize("statement", DIRECT)
def test_what_is_refused_by_hand_is_done_by_a_call_that_the_hint_names(db: Database, statement: str) -> None:
    record_transfer(db)
    request_parts(db, {"key-1": 300})
    run(
        db,
        "insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)"
        " select id, 'call', 'send', gen_random_uuid(), 'succeeded', 'applied' from marketplace.seller_transfers;"
        " insert into marketplace.stripe_events (event_id, type, state, payload) values ('evt_1', 'x', 'kept', '{}')",
    )
    at_commit(db)
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        run(db, statement)
    assert str(caught.value.sqlstate).startswith("ST")
    assert DIRECT[statement] in CALL.findall(str(caught.value.diag.message_hint))


def test_a_row_at_its_end_says_what_may_still_be_said_of_it(db: Database) -> None:
    for status, named in (("reversed", "withdraw_reversal_request"), ("permanently_failed", "reopen")):
        row_id = add_transfer(db, status)
        with pytest.raises(psycopg.Error) as caught, db.transaction():
            run(db, f"update marketplace.seller_transfers set parked_reason = 'x' where id = {row_id}")
        assert {"add_note", named} <= set(CALL.findall(str(caught.value.diag.message_hint)))


def test_every_step_that_the_machine_does_not_take_is_refused_with_a_call(db: Database) -> None:
    refused = 0
    for start in STATUSES:
        row_id = add_transfer(db, start)
        for end in STATUSES:
            if outcome(db, enter, row_id, end) == "ST001":
                refused += 1
                with pytest.raises(psycopg.Error) as caught, db.transaction():
                    enter(db, row_id, end)
                assert CALL.findall(str(caught.value.diag.message_hint)), (start, end)
    assert refused == 36 - 6 - 7
    assert call(db, "self_check") == []
