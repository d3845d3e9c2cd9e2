"""Any sequence of refunds, whole and in parts, beside what runners do: the sum stays, and nothing is taken twice."""

import itertools
import random
from collections import Counter

import psycopg
import pytest

from tests.support.databases import Database, rows
from tests.support.raw_transfers import enter, update_transfer
from tests.support.transfers import at_commit, create_transfer, record_transfer, request_parts, request_reversal

pytest_plugins = ("tests.support.rolled_back",)

_ROW = """
select t.*, marketplace._current_key(t) as key, coalesce(t.root_id, t.id) as root
from marketplace.seller_transfers as t order by t.id"""


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def ask(db: Database, request: str, parts: dict[str, int] | None) -> list[int] | None:
    """The amounts that the request took, or None if more was asked than is left."""
    try:
        with db.transaction():
            taken = request_parts(db, parts, request) if parts else request_reversal(db, p_reversal_request_id=request)
            at_commit(db)
    except psycopg.Error as error:
        if error.sqlstate != "ST005":
            raise
        return None
    return [each["amount"] for each in taken]


def test_every_short_sequence_of_requests_on_one_transfer_takes_what_is_left_and_no_more(db: Database) -> None:
    for asked in itertools.product((None, 1, 2, 3, 5), repeat=3):
        with db.transaction(force_rollback=True):
            record_transfer(db, p_amount=5)
            left = 5
            for n, amount in enumerate(asked):
                takes = left if amount is None else amount
                found = ask(db, f"re_{n}", {"key-1": amount} if amount else None)
                assert found == (None if takes > left else [takes] if takes else []), (asked, n)
                left -= sum(found or [])
            amounts = rows(db, "select status, sum(amount) as amount from marketplace.seller_transfers group by status")
            expected = {"completed": left, "reversal_pending": 5 - left}
            assert {each["status"]: each["amount"] for each in amounts} == {k: v for k, v in expected.items() if v}


@pytest.mark.parametrize("seed", range(8))
def test_a_random_sequence_of_requests_and_ends_conserves_every_family(db: Database, seed: int) -> None:
    chance = random.Random(seed)
    first = {"key-1": 1000, "key-2": 7, "key-3": 90}
    record_transfer(db, 1, p_amount=first["key-1"])
    record_transfer(db, 2, p_order_id="order-1", p_amount=first["key-2"])
    create_transfer(db, 3, p_order_id="order-1", p_amount=first["key-3"])
    left = dict(first)
    taken: dict[str, int] = {}

    for step in range(25):
        request = f"re_{step}"
        match chance.randrange(8):
            case 0 if step > 15:
                parts = None
                asked = dict(left)
            case 1:
                end_one(db, chance)
                continue
            case _:
                keys = chance.sample(sorted(left), chance.randint(1, 3))
                parts = asked = {key: chance.randint(1, max(1, left[key] // chance.randint(1, 4))) for key in keys}
        fits = all(left[key] >= amount for key, amount in asked.items())
        found = ask(db, request, parts)
        if not fits:
            assert found is None, (step, parts, left)
            continue
        assert found is not None
        taken[request] = sum(asked.values())
        assert sum(found) == taken[request], (step, parts, left)
        left = {key: amount - asked.get(key, 0) for key, amount in left.items()}
        assert_books(db, first, left, taken)


def end_one(db: Database, chance: random.Random) -> None:
    """What runners do, in any order: a row on its way back ends well or badly."""
    waiting = rows(db, "select id from marketplace.seller_transfers where status = 'reversal_pending' order by id")
    if waiting:
        end = chance.choice(["reversed", "permanently_failed", "reversal_pending"])
        transfer_id = chance.choice(waiting)["id"]
        if end == "reversal_pending":
            update_transfer(db, transfer_id, "retry_count = retry_count + 1, call_generation = call_generation + 1")
        else:
            enter(db, transfer_id, end)


def assert_books(db: Database, first: dict[str, int], left: dict[str, int], taken: dict[str, int]) -> None:
    """Counted anew from the rows, by hand."""
    found = rows(db, _ROW)
    keys = {each["id"]: each["transfer_key"] for each in found if each["root_id"] is None}
    family_sums: Counter[str] = Counter()
    free: Counter[str] = Counter()
    by_request: Counter[str] = Counter()
    for each in found:
        key = keys[each["root"]]
        family_sums[key] += each["amount"]
        if each["reversal_request_id"]:
            by_request[each["reversal_request_id"]] += each["amount"]
        else:
            free[key] += each["amount"]
    assert family_sums == Counter(first)
    assert +free == +Counter(left)
    assert +by_request == +Counter(taken)
    calls = [(each["root"], each["reversal_request_id"], each["call_part"]) for each in found if each["call_part"]]
    assert len(set(calls)) == len(calls)
    lines = rows(
        db, "select reversal_request_id as request, sum(met) as met from marketplace.reversal_request_lines group by 1"
    )
    assert {each["request"]: each["met"] for each in lines if each["met"]} == {k: v for k, v in taken.items() if v}
