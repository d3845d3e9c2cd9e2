"""db/functions/family.sql: a transfer and its slices, and that nothing is lost between them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.support.databases import Connect, Database, rows, value
from tests.support.raw_transfers import add_transfer, insert_transfer, outcome, run, update_transfer
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import at_commit, call, create_transfer, record_transfer, request_parts, transfer

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def add_slice(db: Database, root_id: int, amount: int = 12, **columns: Any) -> int:
    """Write a completed slice as a split would, but take nothing from the row it comes from."""
    shares = {
        "split_from": root_id,
        "completed_at": "now",
        "stripe_transfer_id": "tr_1",
        "source_charge": "ch_1",
        "original_amount": amount,
        **columns,
    }
    return insert_transfer(db, status="completed", root_id=root_id, amount=amount, **shares)


def paid_root(db: Database) -> int:
    root_id: int = record_transfer(db, p_source_charge="ch_1")["id"]
    return root_id


def refusal(db: Database) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        at_commit(db)
    return refused.value.diag


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_at_commit_a_family_adds_up_to_what_was_first_paid(db: Database, role: str) -> None:
    root_id = paid_root(db)
    db.execute(f"set session_replication_role = {role}".encode())
    for lost, given in ((1, 0), (0, 1), (13, 12), (11, 12)):
        with db.transaction(force_rollback=True):
            if lost:
                update_transfer(db, root_id, f"amount = amount - {lost}")
            if given:
                add_slice(db, root_id, given)
            diag = refusal(db)
            assert (lost, given, diag.sqlstate, diag.table_name) == (lost, given, "ST009", "seller_transfers")
            assert diag.column_name == "amount"
            assert diag.message_hint
    update_transfer(db, root_id, "amount = amount - 12")
    add_slice(db, root_id, 12)
    at_commit(db)


def test_a_root_is_born_with_all_of_its_amount(db: Database) -> None:
    insert_transfer(db, status="completed", completed_at="now", original_amount=1000, amount=999)
    assert refusal(db).sqlstate == "ST009"


@pytest.mark.parametrize(
    "columns",
    [
        {"order_id": "order-2"},
        {"seller_id": "seller-2"},
        {"destination_account": "acct_2"},
        {"currency": "eur"},
        {"source_charge": None},
        {"source_charge": "ch_2"},
        {"stripe_transfer_id": "tr_2"},
        {"original_amount": 13},
    ],
    ids=str,
)
def test_a_slice_is_a_part_of_its_root(db: Database, columns: dict[str, Any]) -> None:
    root_id = paid_root(db)
    update_transfer(db, root_id, "amount = amount - 12")
    add_slice(db, root_id, **columns)
    assert refusal(db).sqlstate == "ST009"


def test_a_slice_is_no_root_and_is_split_from_its_own_family(db: Database) -> None:
    root_id = paid_root(db)
    stranger = record_transfer(db, 2)["id"]
    update_transfer(db, root_id, "amount = amount - 12")
    with db.transaction(force_rollback=True):
        add_slice(db, root_id, split_from=stranger)
        assert refusal(db).sqlstate == "ST009"
    slice_id = add_slice(db, root_id)
    at_commit(db)
    update_transfer(db, slice_id, "amount = amount - 5")
    add_slice(db, slice_id, 5, split_from=slice_id)
    assert refusal(db).sqlstate == "ST009"


def test_a_slice_of_a_root_that_is_not_there_is_refused_even_without_foreign_keys(db: Database) -> None:
    root_id = paid_root(db)
    db.execute("set session_replication_role = replica")
    add_slice(db, root_id + 1000, split_from=root_id)
    assert refusal(db).sqlstate == "ST009"


def test_what_is_refused_at_commit_is_rolled_back(connect: Connect) -> None:
    db = connect()
    root_id = paid_root(db)
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        update_transfer(db, root_id, "amount = 1")
    assert refused.value.sqlstate == "ST009"
    assert transfer(db, root_id)["amount"] == 1000


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_two_sessions_that_each_break_the_sum_do_not_mend_it_for_each_other(connect: Connect, isolation: str) -> None:
    db, second = connect(), impatient(connect, default_transaction_isolation=isolation.replace(" ", r"\ "))
    root_id = paid_root(db)

    def takes() -> None:
        with db.transaction():
            update_transfer(db, root_id, "amount = amount - 12")
            found["gives"] = outcome(second, gives)

    def gives(db: Database) -> None:
        db.execute("set local session_replication_role = replica")  # the foreign key would wait for the root
        add_slice(db, root_id, 12)
        at_commit(db)

    found: dict[str, str] = {}
    with pytest.raises(psycopg.Error) as refused:
        takes()
    assert (refused.value.sqlstate, found) == ("ST009", {"gives": "ST009"})
    assert transfer(db, root_id)["amount"] == 1000


def test_two_sessions_that_split_two_rows_of_a_family_at_once_both_may(connect: Connect) -> None:
    db, second = connect(), impatient(connect)
    root_id = paid_root(db)
    (taken,) = request_parts(db, {"key-1": 400})
    split = "select marketplace._split_transfer(%(id)s, %(amount)s)"
    with db.transaction():
        value(db, split, id=root_id, amount=1)
        with second.transaction():
            value(second, split, id=taken["id"], amount=2)
    assert value(db, "select sum(amount) from marketplace.seller_transfers") == 1000
    assert value(db, "select count(*) from marketplace.seller_transfers") == 4


def test_an_amount_computed_from_what_another_session_changed_meanwhile_is_refused(connect: Connect) -> None:
    """The write skew of those who read first and write what they computed, past the functions."""
    db, second = connect(), impatient(connect)
    root_id = paid_root(db)

    def takes_ten() -> None:
        with second.transaction():
            update_transfer(second, root_id, "amount = 990")
            add_slice(second, root_id, 10)

    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            update_transfer(db, root_id, "amount = 995")
            add_slice(db, root_id, 5)
            other = pool.submit(takes_ten)
            wait_until_blocked(connect(), second)
        with pytest.raises(psycopg.Error) as refused:
            other.result()
    assert refused.value.sqlstate == "ST009"
    assert transfer(db, root_id)["amount"] == 995


def test_ordinary_work_asks_nothing_at_commit(db: Database) -> None:
    """Without slices the trigger is not even queued: in its place stands a function that refuses everything."""
    run(
        db,
        "create or replace function marketplace.tg_seller_transfers__conserve_family() returns trigger"
        " language plpgsql as $$ begin raise exception 'asked'; end $$",
    )
    create_transfer(db, 1)
    add_transfer(db, "reversed")
    at_commit(db)
    record_transfer(db, 2)
    request_parts(db, {"key-2": 1}, p_order_id="order-2")
    with pytest.raises(psycopg.errors.RaiseException), db.transaction():
        at_commit(db)


def test_a_family_is_added_up_without_going_through_the_successors_of_others(db: Database) -> None:
    def readings() -> object:
        # Of the whole table's; few or many, the planner may read all of them to find those of one family.
        return value(db, "select pg_stat_get_xact_numscans('marketplace.idx_seller_transfers_successor_of'::regclass)")

    record_transfer(db, 1)
    request_parts(db, {"key-1": 1})
    call(db, "withdraw_reversal_request", p_reversal_request_id="re_1", p_reason="failed")
    before = readings()

    at_commit(db)

    assert readings() == before
    assert value(db, "select count(*) from marketplace.seller_transfers where successor_of is not null") == 1


def test_helpers_that_return_rows_say_that_they_are_few(db: Database) -> None:
    """Taken for a thousand each, two of them in one statement are thought worth compiling: 20 ms a transfer."""
    silent = rows(
        db,
        """
        select p.proname from pg_catalog.pg_proc as p
        where p.pronamespace = 'marketplace'::regnamespace and p.proretset and p.prorows = 1000
          and starts_with(p.proname, '_') and not p.proname ~ '^_(check|compare|verify)_'
        """,
    )
    assert {helper["proname"] for helper in silent} == {
        # What goes through batches, or through everything.
        "_claim_calls",
        "_differences",
        "_history_of",
        "_listed_reversals",
        "_missing_guards",
        "_owned",
        "_read_outcomes",
        "_record_outcomes",
        "_replay_log",
        "_retry_these",
        "_stands",
        "_unheard_payment",
    }


def test_a_row_is_left_when_it_is_paid_or_known_not_to_be(db: Database) -> None:
    lease = (
        "lease_token = gen_random_uuid(), leased_at = now(), lease_expires_at = now(), leased_by = 'worker',"
        " lease_action = 'send'"
    )
    signs = ("retry_count = 0", "call_last_sent_at = now()", "call_unknown = true", lease)
    expected = {
        "pending": (True, True, False, False),
        "completed": (True, True, True, None),  # a completed row is never leased
        "failed": (True, True, False, False),
        "reversal_pending": (False, False, False, False),
    }
    for status, answers in expected.items():
        for sign, answer in zip(signs, answers, strict=True):
            if answer is not None:
                with db.transaction(force_rollback=True):
                    row_id = add_transfer(db, status)
                    update_transfer(db, row_id, sign)
                    left = value(
                        db,
                        "select marketplace._is_left(t) from marketplace.seller_transfers as t where t.id = %(id)s",
                        id=row_id,
                    )
                    assert (status, sign, left) == (status, sign, answer)
    for status in ("reversed", "permanently_failed"):
        row_id = add_transfer(db, status)
        left = "select marketplace._is_left(t) from marketplace.seller_transfers as t where t.id = %(id)s"
        assert value(db, left, id=row_id) is False


def test_the_app_knows_a_slice_by_its_roots_key(db: Database) -> None:
    root_id = record_transfer(db)["id"]
    (taken,) = request_parts(db, {"key-1": 12})
    key = "select marketplace._family_key(t) from marketplace.seller_transfers as t where t.id = %(id)s"
    assert [value(db, key, id=each) for each in (root_id, taken["id"])] == ["key-1", "key-1"]
