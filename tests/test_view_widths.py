"""Every view that people read fits a terminal of 120 columns, with rows as they are in real life."""

import subprocess

import pytest

from runner.sandbox.postgres_binaries import find_binaries
from tests.support.databases import Database, rows
from tests.support.events import event, ingest
from tests.support.look_ups import ours, pass_time, seen
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claim_sends,
    create_transfer,
    record_one,
    record_transfer,
    refusal,
    request_reversal,
    sent,
    success,
    timeout,
)

COLUMNS = 120
# For programs, or with \x.
WIDE = {"needs_attention_full", "queue_health_full"}
EXPANDED = {"kept_events", "open_reversals", "open_transfers", "rate_budget", "request_shares", "runner_health"}
WORKER = "payouts-7f9c6d5b84-x2x9z-12-4fe1"


def stripe_id(prefix: str, n: int) -> str:
    """As long as Stripe's are."""
    return f"{prefix}_3PgdA2B7WZ01zgkW{n:08}"


def says_expanded(db: Database, view: str) -> bool:
    said = "select obj_description(to_regclass(%(view)s)) as comment"
    return bool(rows(db, said, view=f"marketplace.{view}")[0]["comment"].endswith("In psql, with \\x."))


@pytest.fixture
def lived_in(db: Database) -> Database:
    """A database with one of everything that goes wrong."""
    call(db, "set_refunds_by", p_who="events", p_reason="they know")
    db.execute("select setval('marketplace.seller_transfers_id_seq', 1204417)")
    names = {
        n: {
            "p_transfer_key": f"o-10{n:03}/s-20{n:02}",
            "p_order_id": f"o-10{n:03}",
            "p_seller_id": f"s-20{n:02}",
            "p_destination_account": stripe_id("acct", n),
            "p_amount": 1234567,
            "p_currency": ("usd", "jpy", "kwd")[n % 3],
        }
        for n in range(1, 12)
    }

    def refunded(n: int) -> None:
        record_transfer(db, n, **names[n], p_stripe_transfer_id=stripe_id("tr", n))
        request_reversal(db, p_order_id=f"o-10{n:03}", p_reversal_request_id=stripe_id("re", n))

    # Parked for two reversals
    refunded(1)
    (leased,) = claim(db, worker=WORKER)
    record_one(db, timeout(leased))
    pass_time(db, leased["id"], "2 hours")
    looked = claim_again(db, leased["id"])
    pair = (ours(db, looked, stripe_id("trr", n)) for n in (1, 2))
    record_one(db, seen(looked, *pair, amount=2 * 1234567))
    # Given up by the machine, and by a person
    for n in (2, 3):
        refunded(n)
        (leased,) = claim(db, worker=WORKER)
        message = "The destination account does not have sufficient funds in its balance to cover this reversal, sorry."
        record_one(db, refusal(leased, 404 if n == 2 else 400, "resource_missing", message))
        if n == 3:
            call(db, "give_up", p_id=leased["id"], p_reason="the seller is bankrupt, see ticket 42")
    # Waiting for money, under way, unknown, not recorded
    refunded(4)
    (leased,) = claim(db, worker=WORKER)
    record_one(db, refusal(leased, 400, "balance_insufficient", "Insufficient funds in your Stripe account. " * 4))
    refunded(5)
    claim(db, worker=WORKER)
    create_transfer(db, 6, **names[6])
    (leased,) = claim_sends(db, worker=WORKER)
    record_one(db, timeout(leased))
    create_transfer(db, 7, **names[7])
    (leased,) = claim_sends(db, worker=WORKER)
    record_one(db, sent(leased, stripe_id("tr", 70), amount=1))
    record_transfer(db, 8, **names[8], p_stripe_transfer_id=None)
    create_transfer(db, 9, **names[9])
    refunded(10)
    (leased,) = claim(db, worker=WORKER)
    record_one(db, success(leased, stripe_id("trr", 10)))
    call(db, "withdraw_reversal_request", p_reversal_request_id=stripe_id("re", 10), p_reason="the bank sent it back")
    call(db, "add_note", p_id=leased["id"], p_note="The seller has called: what is he to get? See ticket 42.")
    # Events that wait
    for n, charge in ((1, "ch"), (2, "py")):
        refund = {"id": stripe_id("re", 90 + n), "object": "refund", "amount": 500, "currency": "usd"}
        told = {**refund, "charge": stripe_id(charge, 90 + n), "status": "succeeded"}
        ingest(db, event("refund.created", told, id=stripe_id("evt", n)))
    call(db, "pause_stripe_calls", p_reason="Stripe has an incident, see its status page: elevated error rates. " * 2)
    return db


def test_every_view_is_read_at_120_columns(lived_in: Database) -> None:
    views = [
        each["name"]
        for each in rows(
            lived_in,
            "select relname as name from pg_class"
            " where relkind = 'v' and relnamespace = 'marketplace'::regnamespace order by relname",
        )
    ]
    too_wide = []
    for view in views:
        if view in WIDE:
            continue
        query = f"select * from marketplace.{view}"
        shown = psql(lived_in.info.dsn, *(["-x"] if view in EXPANDED else []), query)
        assert shown.count("\n") > 3, f"{view} is empty"
        assert says_expanded(lived_in, view) == (view in EXPANDED)
        too_wide += [(view, line) for line in shown.splitlines() if len(line) > COLUMNS]
    assert too_wide == []


def psql(dsn: str, *options_and_query: str) -> str:
    """What psql prints."""
    *options, query = options_and_query
    program = str(find_binaries(16) / "psql")
    command = [program, "-X", "-P", "pager=off", *options, "-c", query, dsn]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
