"""db/functions/claim.sql: which rows a worker may call Stripe for, under a lease that expires."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, rows, value
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    attempts,
    call,
    claim,
    claim_again,
    claimed_call,
    record,
    record_one,
    refunded_transfer,
    refunded_transfers,
    refusal,
    success,
    transfer,
)


def ids(calls: list[DictRow]) -> list[int]:
    return [leased["id"] for leased in calls]


def test_a_call_says_what_to_do_and_exactly_what_to_send(db: Database) -> None:
    refunded_transfer(db, p_source_charge="ch_1", p_amount=1234, p_currency="jpy")

    (leased,) = call(db, "claim_due_reversals", p_worker="worker-1", p_limit=1, p_lease=timedelta(seconds=90))

    key, token = leased.pop("idempotency_key"), leased.pop("lease_token")
    metadata = leased.pop("metadata")
    assert (key, metadata["order_id"]) == (f"{metadata['seller_transfers_identity']}:1", "order-1")
    held = transfer(db, leased["id"])
    assert leased == {
        "id": held["id"],
        "action": "reverse",
        "lease_seconds": 90.0,
        "stripe_transfer_id": "tr_1",
        "stripe_reversal_id": None,
        "amount": 1234,
        "currency": "jpy",
        "destination_account": "acct_1",
        "source_charge": "ch_1",
        "transfer_group": None,
        "created_after": None,
    }
    assert (held["lease_token"], held["leased_by"], held["lease_action"]) == (token, "worker-1", "reverse")
    assert held["lease_expires_at"] - held["leased_at"] == timedelta(seconds=90)
    assert held["leased_at"] <= value(db, "select clock_timestamp()")
    assert held["call_params"] == {"amount": 1234, "metadata": metadata}
    assert (held["status"], held["call_last_sent_at"], attempts(db, held["id"])) == ("reversal_pending", None, [])


def test_a_lease_is_as_long_as_it_says_whatever_the_calendar(db: Database) -> None:
    refunded_transfer(db)

    (leased,) = claim(db, lease="2 months -60 days 60 seconds")

    held = transfer(db, leased["id"])
    assert leased["lease_seconds"] == 60.0
    assert held["lease_expires_at"] - held["leased_at"] == timedelta(seconds=60)


def test_a_request_is_sent_again_as_it_was_whatever_a_release_would_send(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 429, "rate_limit"))
    db.execute("""
        create or replace function marketplace._call_params(
          p_row marketplace.seller_transfers, p_database_id uuid)
        returns jsonb language sql immutable as $$ select '{"amount": 1, "metadata": {"new": "words"}}'::jsonb $$
    """)

    again = claim_again(db, leased["id"])

    sent = ("action", "idempotency_key", "amount", "metadata")
    assert [again[name] for name in sent] == [leased[name] for name in sent]


def test_a_claim_with_an_old_snapshot_is_refused(db: Database) -> None:
    refunded_transfer(db)
    for level in ("repeatable read", "serializable"):
        db.execute(f"set default_transaction_isolation = '{level}'".encode())
        with pytest.raises(psycopg.Error) as refused:
            claim(db)
        assert refused.value.sqlstate == "25000"
        assert "READ COMMITTED" in (refused.value.diag.message_hint or "")


PLANNER_SETTINGS: list[dict[str, str]] = [
    {},
    {"enable_hashjoin": "off"},
    {"enable_mergejoin": "off"},
    {"enable_nestloop": "off"},
    {"enable_indexscan": "off", "enable_bitmapscan": "off"},
    {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"},
    # A nested loop that asks for the rows to take anew for each row of the table, if the claim lets it.
    dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_sort", "enable_material"), "off"),
]


@pytest.mark.parametrize("settings", PLANNER_SETTINGS, ids=lambda settings: " ".join(settings) or "as shipped")
def test_eight_sessions_at_once_get_200_distinct_rows_and_never_more_than_asked_for(
    db: Database, connect: Connect, settings: dict[str, str]
) -> None:
    due = refunded_transfers(db, 200)
    db.execute("analyze marketplace.seller_transfers")
    sessions = [impatient(connect, **settings) for _ in range(8)]

    def claim_all(number: int) -> list[list[int]]:
        claims: list[list[int]] = []
        while len(claims) < 100 and (leased := claim(sessions[number], limit=7, worker=f"worker-{number}")):
            claims.append(ids(leased))
        return claims

    with ThreadPoolExecutor(max_workers=8) as pool:
        # Held back until all eight have begun: each statement's snapshot is then older than every lease.
        with db.transaction():
            db.execute("select from marketplace.stripe_control for update")
            running = [pool.submit(claim_all, number) for number in range(8)]
            wait_until_blocked(connect(), *sessions)
        claims = [each for future in running for each in future.result()]

    assert {len(each) for each in claims} <= set(range(1, 8))
    assert sorted(transfer_id for each in claims for transfer_id in each) == sorted(due)


def test_a_claim_never_waits_for_a_row_that_another_session_holds(db: Database, connect: Connect) -> None:
    held, free = refunded_transfers(db, 2)
    impatient_claim = connect(options="-c lock_timeout=1s")

    with db.transaction():
        db.execute("select from marketplace.seller_transfers where id = %s for update", [held])
        assert ids(claim(impatient_claim)) == [free]

    assert ids(claim(impatient_claim)) == [held]


def test_a_claim_waits_for_the_one_before_and_sees_its_leases(db: Database, connect: Connect) -> None:
    claim(db)  # the first of all writes which database it is: the others have nothing to write
    first, second = refunded_transfers(db, 2)
    other = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            assert ids(claim(db, limit=1)) == [first]
            waiting = pool.submit(claim, other)
            wait_until_blocked(connect(), other)
        assert ids(waiting.result()) == [second]


def test_no_claim_returns_a_row_once_a_pause_is_committed_even_if_it_began_before(
    db: Database, connect: Connect
) -> None:
    claim(db)  # the first of all writes which database it is: the others have nothing to write
    refunded_transfers(db, 2)
    begun_before = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
            waiting = pool.submit(claim, begun_before)
            wait_until_blocked(connect(), begun_before)
        assert waiting.result() == []

    assert claim(db) == []


def test_a_pause_waits_for_a_claim_under_way(db: Database, connect: Connect) -> None:
    claim(db)  # the first of all writes which database it is: the others have nothing to write
    refunded_transfers(db, 1)
    operator = impatient(connect)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with db.transaction():
            assert len(claim(db)) == 1
            pausing = pool.submit(call, operator, "pause_stripe_calls", p_reason="Stripe asked us to")
            wait_until_blocked(connect(), operator)
        (control,) = pausing.result()

    assert control["paused_by"] == "person"


def test_claims_and_reports_at_once_never_deadlock(db: Database, connect: Connect) -> None:
    refunded_transfers(db, 200)
    sessions = [impatient(connect, deadlock_timeout="10ms") for _ in range(4)]

    def work(number: int) -> int:
        done = 0
        for _ in range(100):
            leased = claim(sessions[number], limit=5, worker=f"worker-{number}", lease="1 h")
            if not leased:
                break
            # In no order: the locks are taken in that of the ids.
            outcomes = [success(each) for each in leased[::-1]]
            done += sum(each["result"] == "applied" for each in record(sessions[number], *outcomes))
        return done

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(work, range(4))) == 200

    assert value(db, "select count(*) from marketplace.seller_transfers where status = 'reversed'") == 200


def reads(db: Database) -> dict[str, int]:
    """What this session has read of the table so far: scans of it, scans of each index, and buffers of all of them."""
    found = rows(
        db,
        """
        select r.relation::text as name, pg_stat_get_xact_numscans(r.relation) as scans,
          pg_stat_get_xact_blocks_fetched(r.relation) as buffers
        from (
          select 'marketplace.seller_transfers'::regclass union all
          select indexrelid from pg_index where indrelid = 'marketplace.seller_transfers'::regclass
        ) as r (relation)
        """,
    )
    return {each["name"]: each["scans"] for each in found} | {"buffers": sum(each["buffers"] for each in found)}


def read_by_claim(db: Database) -> tuple[list[int], dict[str, int]]:
    """The ids a claim returns, and what it read to find them."""
    with db.transaction():
        before = reads(db)
        claimed = ids(claim(db, limit=100))
        after = reads(db)
    return claimed, {name: after[name] - before[name] for name in after if after[name] > before[name]}


def test_a_claim_reads_the_partial_index_and_an_empty_one_a_handful_of_buffers(db: Database) -> None:
    # 6,000 rows that are over and 4,000 that are not due.
    db.execute("insert into marketplace.reversal_requests values ('re_0', 'order-0', 'refund')")
    db.execute("""
        insert into marketplace.seller_transfers (transfer_key, order_id, seller_id, destination_account,
          original_amount, amount, currency, status, completed_at, stripe_transfer_id)
        select 'key-0' || n, 'order-0', 'seller-0', 'acct_0', 1000, 1000, 'usd', 'completed', now(), 'tr_0' || n
        from generate_series(1, 10000) as n
    """)
    db.execute("""
        update marketplace.seller_transfers set status = 'reversal_pending', reversal_request_id = 're_0',
          next_retry_at = now() + id * interval '1 min', call_part = 1, call_generation = 1, call_minted_at = now()
    """)
    db.execute("""
        update marketplace.seller_transfers set status = 'reversed', next_retry_at = null, failure_message = 'by hand'
        where id % 5 < 3
    """)
    db.execute("vacuum analyze marketplace.seller_transfers")
    for _ in range(7):  # past the point where the prepared plan becomes a generic one
        assert claim(db, limit=100) == []

    nothing, read_for_nothing = read_by_claim(db)
    due = refunded_transfers(db, 3)
    claimed, read_for_three = read_by_claim(db)

    pending = "marketplace.idx_seller_transfers_reversal_pending"
    assert (nothing, claimed) == ([], due)
    assert read_for_nothing.pop("buffers") < 20
    assert read_for_nothing == {pending: 1}
    assert read_for_three.pop("buffers") < 200
    assert read_for_three.pop(pending) == 1
    # Each is asked whether a part of its transfer is under way; the rows are then written by id, one by one.
    assert read_for_three.keys() == {"marketplace.idx_seller_transfers_family", "marketplace.pk_seller_transfers"}
