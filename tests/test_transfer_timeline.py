"""db/functions/transfer_timeline.sql: everything that happened, in order, found by index."""

import pytest

from tests.support.databases import Database, rows, value
from tests.support.events import event, ingest
from tests.support.look_ups import seen
from tests.support.raw_transfers import run
from tests.support.transfers import (
    call,
    claim,
    lapse_lease,
    record_one,
    record_transfer,
    refusal,
    request_parts,
    success,
)
from tests.support.withdrawals import withdraw

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def timeline(db: Database, where: str) -> list[tuple[int | None, str]]:
    """Row, and what happened, on one line."""
    found = rows(db, f"select * from marketplace.transfer_timeline where {where}")
    assert [each["happened_at"] for each in found] == sorted(each["happened_at"] for each in found)
    return [(each["transfer_id"], each["what"].replace("\n", " ")) for each in found]


def test_a_refund_that_failed_from_its_beginning_to_its_end(db: Database) -> None:
    row_id = record_transfer(db, p_source_charge="ch_1")["id"]
    told = {"id": "ch_1", "object": "charge", "amount": 1000, "currency": "usd", "status": "succeeded"}
    ingest(db, event("charge.succeeded", told, id="evt_1"))
    request_parts(db, {"key-1": 1000})
    assert claim(db)
    lapse_lease(db, row_id)
    (looked,) = claim(db)
    record_one(db, seen(looked))
    (posted,) = claim(db)
    record_one(db, success(posted))
    withdraw(db)
    (comp_id,) = (
        each["id"] for each in rows(db, "select id from marketplace.seller_transfers where compensates is not null")
    )
    call(db, "add_note", p_id=row_id, p_note="ticket 42")

    assert timeline(db, "order_id = 'order-1'") == [
        (row_id, "born completed by postgres"),
        (None, "event evt_1 charge.succeeded acted: charge ch_1 is noted"),
        (row_id, "refund re_1 asks for 10.00 USD (1000), of which 10.00 USD could be taken; by postgres (app)"),
        (row_id, "completed → reversal_pending by postgres: refund re_1 requested"),
        (row_id, "reverse was never reported → unknown by worker-1"),
        (row_id, "look_up_reversals → absent HTTP 200 by worker-1"),
        (row_id, "reverse → succeeded HTTP 200 trr_1 req_1 by worker-1"),
        (row_id, "reversal_pending → reversed by postgres: reported by worker-1"),
        (row_id, "re_1 is withdrawn by postgres: the refund failed"),
        (comp_id, f"born pending by postgres: gives transfer {row_id} back: re_1 was withdrawn: the refund failed"),
        (row_id, f"note by postgres: transfer {comp_id} gives it back: re_1 was withdrawn: the refund failed"),
        (row_id, "note by postgres: ticket 42"),
    ]


def test_slices_and_successors_are_found_by_the_key_of_their_transfer(db: Database) -> None:
    root_id = record_transfer(db)["id"]
    (part,) = request_parts(db, {"key-1": 400})
    (looked,) = claim(db)
    record_one(db, refusal(looked, 404, "resource_missing"))
    (successor,) = call(db, "reopen", p_id=part["id"], p_reason="it is there")
    record_transfer(db, 2)

    found = timeline(db, "transfer_key = 'key-1'")

    assert {row_id for row_id, _ in found} == {root_id, part["id"], successor["id"]}
    assert {row_id for row_id, _ in timeline(db, f"transfer_id = {part['id']}")} == {part["id"]}
    assert timeline(db, "order_id = 'order-1'") == found


def test_nothing_is_searched_from_end_to_end(db: Database) -> None:
    many = 4000
    run(
        db,
        f"""
        insert into marketplace.seller_transfers (
          transfer_key, order_id, seller_id, destination_account, original_amount, amount, currency, status,
          completed_at, stripe_transfer_id)
        select 'many-' || n, 'order-' || n, 's', 'acct_1', 1000, 1000, 'usd', 'completed', now(), 'tr_many' || n
        from generate_series(1, {many}) as n;
        insert into marketplace.transfer_attempts (transfer_id, kind, action, lease_token, verdict, disposition)
        select t.id, 'call', 'send', gen_random_uuid(), 'succeeded', 'applied' from marketplace.seller_transfers as t;
        insert into marketplace.stripe_events (event_id, type, state, payload, order_id)
        select 'evt_' || n, 'refund.created', 'acted', '{{}}', 'order-' || n from generate_series(1, {many}) as n;
        analyze marketplace.seller_transfers, marketplace.transfer_attempts, marketplace.transfer_status_log,
          marketplace.stripe_events;
        """,
    )
    last = value(db, "select max(id) from marketplace.seller_transfers")
    for where in (f"order_id = 'order-{many}'", f"transfer_key = 'many-{many}'", f"transfer_id = {last}"):
        query = f"explain (analyze, timing off) select * from marketplace.transfer_timeline where {where}"
        plan = "\n".join(str(next(iter(line.values()))) for line in rows(db, query))
        for table in ("seller_transfers", "transfer_attempts", "transfer_status_log", "stripe_events"):
            assert f"Seq Scan on {table}" not in plan, plan
        assert "Rows Removed" not in plan, plan
