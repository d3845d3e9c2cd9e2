"""The state machine: every pair of statuses against an oracle written by hand, by function and by raw UPDATE."""

import re
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.support.databases import Database, value
from tests.support.raw_transfers import (
    BIRTHS,
    STATUSES,
    add_transfer,
    enter,
    insert_transfer,
    outcome,
    run,
    update_transfer,
)
from tests.support.transfers import transfer

pytest_plugins = ("tests.support.rolled_back",)

README = Path(__file__).resolve().parent.parent / "README.md"

SUCCESSORS: dict[str, set[str]] = {
    "pending": {"completed", "failed"},
    "completed": {"reversal_pending"},
    "failed": {"completed", "permanently_failed"},
    "reversal_pending": {"reversed", "permanently_failed"},
    "reversed": set(),
    "permanently_failed": set(),
}
DEAD_ENDS = ("reversed", "permanently_failed")

PAIRS = [(old, new) for old in STATUSES for new in STATUSES]
ORACLE = {(old, new): new == old or new in SUCCESSORS[old] for old, new in PAIRS}
NO_STATUS = (None, "", "refunded", "Pending", "PENDING", " pending", "pending ", "pending\n", "null")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def test_there_are_36_pairs_and_13_of_them_are_legal() -> None:
    assert (len(ORACLE), sum(ORACLE.values())) == (36, 13)


def test_the_function_answers_every_pair_as_the_oracle(db: Database) -> None:
    assert {pair: can_transition(db, *pair) for pair in PAIRS} == ORACLE


def test_the_function_is_false_and_not_null_for_whatever_is_no_status(db: Database) -> None:
    asked = [(bad, other) for bad in NO_STATUS for other in (*STATUSES, *NO_STATUS)]
    asked += [(status, bad) for status in STATUSES for bad in NO_STATUS]
    assert {pair: can_transition(db, *pair) for pair in asked} == dict.fromkeys(asked, False)


def test_a_raw_update_passes_or_is_refused_as_the_oracle_says_for_every_pair(db: Database) -> None:
    expected = {pair: "passes" if legal else "ST001" for pair, legal in ORACLE.items()}
    assert {pair: outcome(db, change, *pair) for pair in PAIRS} == expected


def test_without_the_state_machine_every_one_of_those_raw_updates_passes(db: Database) -> None:
    """Nothing else stands in their way: the test above is about the matrix and not about some CHECK."""
    db.execute("alter table marketplace.seller_transfers disable trigger _100_guard_transition")
    db.execute("alter table marketplace.seller_transfers disable trigger _200_guard_frozen")
    db.execute("alter table marketplace.seller_transfers disable trigger _900_log_status")  # it asks once more
    assert {pair: outcome(db, change, *pair) for pair in PAIRS} == dict.fromkeys(PAIRS, "passes")


def test_a_dead_end_has_no_way_out(db: Database) -> None:
    ids = {end: add_transfer(db, end) for end in DEAD_ENDS}
    ways_out = [(end, new) for end in DEAD_ENDS for new in (*STATUSES, "refunded") if new != end]
    found = {(end, new): outcome(db, update_transfer, ids[end], f"status = '{new}'") for end, new in ways_out}
    assert len(found) == 12
    assert found == dict.fromkeys(ways_out, "ST001")


def test_an_unknown_status_is_no_destination(db: Database) -> None:
    ids = {status: add_transfer(db, status) for status in STATUSES}
    tried = [(status, new) for status in STATUSES for new in ("'refunded'", "'Pending'", "''", "null")]
    found = {(old, new): outcome(db, update_transfer, ids[old], f"status = {new}") for old, new in tried}
    assert found == dict.fromkeys(tried, "ST001")


def test_an_unknown_status_is_no_origin(db: Database) -> None:
    db.execute("alter table marketplace.seller_transfers drop constraint chk_status_is_known")
    db.execute("alter table marketplace.seller_transfers disable trigger _100_guard_transition")
    transfer_id = insert_transfer(db, status="refunded")
    db.execute("alter table marketplace.seller_transfers enable always trigger _100_guard_transition")
    tried = (*STATUSES, "refunded", "lost")
    found = {new: outcome(db, update_transfer, transfer_id, f"status = '{new}'") for new in tried}
    assert found == dict.fromkeys(tried, "ST001")


def test_an_update_that_keeps_the_status_passes(db: Database) -> None:
    for status in ("pending", "failed", "reversal_pending"):
        transfer_id = add_transfer(db, status)
        update_transfer(db, transfer_id, f"status = '{status}', retry_count = retry_count + 1")
        assert transfer(db, transfer_id)["retry_count"] == 1


def test_an_update_that_changes_nothing_passes_at_every_status_even_the_last(db: Database) -> None:
    for status in STATUSES:
        transfer_id = add_transfer(db, status)
        before = transfer(db, transfer_id)
        update_transfer(db, transfer_id, "status = status, amount = amount, failure_message = failure_message")
        assert transfer(db, transfer_id) == before


def test_a_transfer_is_born_pending_or_completed_and_nothing_else(db: Database) -> None:
    tried = (*STATUSES, "refunded", "Pending", "", None)
    born = {status: outcome(db, insert_transfer, **BIRTHS.get(status or "", {"status": status})) for status in tried}
    assert born == {status: "passes" if status in ("pending", "completed") else "ST001" for status in tried}


def test_the_state_machine_holds_in_a_session_that_skips_ordinary_triggers(db: Database) -> None:
    db.execute("set session_replication_role = replica")
    expected = {pair: "passes" if legal else "ST001" for pair, legal in ORACLE.items()}
    assert {pair: outcome(db, change, *pair) for pair in PAIRS} == expected
    assert outcome(db, insert_transfer, status="failed") == "ST001"


def test_the_state_machine_holds_for_upserts_and_bulk_loads(db: Database) -> None:
    add_transfer(db, "completed", transfer_key="key-1")
    columns = "transfer_key, order_id, seller_id, destination_account, original_amount, amount, currency, status"
    upsert = (
        f"insert into marketplace.seller_transfers ({columns}, completed_at)"
        " values ('key-1', 'order-1', 'seller-1', 'acct_1', 1000, 1000, 'usd', 'completed', 'now')"
        " on conflict (transfer_key) do update set status = 'failed'"
    )
    assert outcome(db, run, upsert) == "ST001"

    def load(db: Database) -> None:
        into = f"copy marketplace.seller_transfers ({columns}) from stdin".encode()
        with db.cursor() as cursor, cursor.copy(into) as copy:
            copy.write_row(("key-2", "order-1", "seller-1", "acct_1", 1000, 1000, "usd", "reversed"))

    assert outcome(db, load) == "ST001"


def test_a_refusal_names_table_and_column_and_the_next_step(db: Database) -> None:
    ended = add_transfer(db, "reversed")
    for act in (
        partial(update_transfer, db, ended, "status = 'pending'"),
        partial(insert_transfer, db, status="failed"),
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            act()
        diag = refused.value.diag
        assert (diag.schema_name, diag.table_name, diag.column_name) == ("marketplace", "seller_transfers", "status")
        assert diag.message_hint


def test_the_check_constraint_names_the_same_six_statuses(db: Database) -> None:
    definition = value(
        db,
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'chk_status_is_known'"
        " and conrelid = 'marketplace.seller_transfers'::regclass",
    )
    assert set(re.findall(r"'([^']*)'", definition)) == set(STATUSES)


def test_the_diagram_in_the_readme_is_the_matrix() -> None:
    readme = README.read_text(encoding="utf-8")
    diagram = re.search(r"```mermaid\s+stateDiagram(?:-v2)?\n(.*?)```", readme, re.DOTALL)
    assert diagram is not None, "README.md has no ```mermaid stateDiagram block"
    arrows = re.findall(r"^\s*(\w+|\[\*\])\s*-->\s*(\w+|\[\*\])", diagram[1], re.MULTILINE)
    assert len(arrows) == len(set(arrows))
    drawn = {name for arrow in arrows for name in arrow} - {"[*]"}
    assert drawn == set(STATUSES)
    assert {new for old, new in arrows if old == "[*]"} == {"pending", "completed"}
    assert {old for old, new in arrows if new == "[*]"} <= set(DEAD_ENDS)
    changes = {arrow for arrow in arrows if "[*]" not in arrow}
    assert changes == {(old, new) for old in SUCCESSORS for new in SUCCESSORS[old]}


def can_transition(db: Database, old: str | None, new: str | None) -> object:
    return value(
        db,
        "select marketplace.can_transition_transfer_status(p_from => %(old)s, p_to => %(new)s)",
        old=old,
        new=new,
    )


def change(db: Database, old: str, new: str) -> None:
    """Make a transfer that is `old` and bring it to `new` by raw UPDATE."""
    transfer_id = add_transfer(db, old)
    if new == old:
        update_transfer(db, transfer_id, f"status = '{new}'")
    else:
        enter(db, transfer_id, new)
    assert transfer(db, transfer_id)["status"] == new


def test_a_status_changed_by_a_trigger_of_somebody_else_is_held_to_the_matrix_too(db: Database) -> None:
    transfer_id = add_transfer(db, "completed")
    db.execute(
        "create function public.tamper() returns trigger language plpgsql as"
        " $$ begin NEW.status := 'failed'; NEW.next_retry_at := now(); return NEW; end $$"
    )
    db.execute(
        "create trigger _500_tamper before update on marketplace.seller_transfers"
        " for each row execute function public.tamper()"
    )
    db.execute("alter table marketplace.seller_transfers drop constraint chk_completed_at_says_paid")
    db.execute("alter table marketplace.seller_transfers drop constraint chk_open_has_a_call")
    assert (
        outcome(db, update_transfer, transfer_id, "leased_by = null, seller_id = seller_id, parked_reason = null")
        == "ST001"
    )
