"""db/functions/call_identity.sql: what Stripe knows a reversal of ours by."""

import hashlib
import re

import psycopg
import pytest

from tests.support.databases import Connect, Database, open_database, value
from tests.support.migrations import migrate_database
from tests.support.transfers import (
    claim,
    claim_again,
    claim_post,
    claimed_call,
    lapse_lease,
    nothing_found,
    record_one,
    record_transfer,
    refusal,
    request_reversal,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def identity(db: Database, request: str) -> str:
    return f"reversal:{value(db, 'select database_id from marketplace.stripe_control')}:tr_1:{request}:1"


def test_the_key_says_database_transfer_request_part_and_generation(db: Database) -> None:
    leased = claimed_call(db)

    assert leased["idempotency_key"] == f"{identity(db, 're_1')}:1"
    assert leased["metadata"] == {
        "seller_transfers_identity": identity(db, "re_1"),
        "seller_transfers_generation": "1",
        "transfer_key": "key-1",
        "order_id": "order-1",
        "reversal_request_id": "re_1",
    }


def test_an_identity_of_200_characters_is_sent_as_it_is(db: Database) -> None:
    request = "x" * 147
    assert len(identity(db, request)) == 200

    record_transfer(db)
    request_reversal(db, p_reversal_request_id=request)

    (leased,) = claim(db)

    assert leased["idempotency_key"] == f"{identity(db, request)}:1"


def test_an_identity_that_is_longer_or_fits_no_header_is_sent_as_its_hash(db: Database) -> None:
    for n, request in enumerate(("x" * 148, "re 1", "remboursement-é", "退款"), start=1):
        record_transfer(db, n)
        request_reversal(db, n, p_reversal_request_id=request)

        (leased,) = claim(db)

        whole = identity(db, request).replace("tr_1", f"tr_{n}")
        assert leased["idempotency_key"] == f"reversal:{hashlib.sha256(whole.encode()).hexdigest()}:1"
        assert leased["metadata"]["reversal_request_id"] == request


def test_the_longest_ids_still_make_a_key_and_metadata_that_stripe_takes(db: Database) -> None:
    record_transfer(db, p_order_id="ö" * 255, p_stripe_transfer_id="tr_" + "x" * 252)
    (refunded,) = request_reversal(db, p_order_id="ö" * 255, p_reversal_request_id="é" * 255)
    db.execute("update marketplace.seller_transfers set call_generation = 2147483647")

    leased = claim_post(db, refunded["id"])

    assert leased["metadata"]["seller_transfers_generation"] == "2147483647"
    assert re.fullmatch(r"[!-~]{1,255}", leased["idempotency_key"])
    # Stripe: keys of up to 40 characters, values of up to 500.
    assert {name: text for name, text in leased["metadata"].items() if len(name) > 40 or len(text) > 500} == {}


def test_no_two_obligations_share_a_key(db: Database) -> None:
    # Ids that hold the separator, or each other's parts.
    requests = ("re_1", "re_1:1", "1", "1:1", ":", "re_1:1:1")
    for n, request in enumerate(requests, start=1):
        record_transfer(db, n)
        request_reversal(db, n, p_reversal_request_id=request)

    assert len({leased["idempotency_key"] for leased in claim(db)}) == len(requests)


def test_two_databases_never_share_a_key(connect: Connect, empty_dsn: str) -> None:
    db = connect()
    migrate_database(empty_dsn)
    with open_database(empty_dsn) as other:
        here, there = claimed_call(db), claimed_call(other)

    assert (here["id"], here["stripe_transfer_id"]) == (there["id"], there["stripe_transfer_id"])
    assert here["idempotency_key"] != there["idempotency_key"]


def test_migrating_again_keeps_the_databases_identity(connect: Connect, dsn: str) -> None:
    db = connect()
    before = value(db, "select database_id from marketplace.stripe_control")

    migrate_database(dsn)

    assert value(db, "select database_id from marketplace.stripe_control") == before


def test_the_databases_identity_is_never_changed_or_lost(db: Database) -> None:
    """With another one every open reversal would go out under a key that Stripe has not seen."""
    for change in (
        "update marketplace.stripe_control set database_id = gen_random_uuid()",
        "delete from marketplace.stripe_control",
        "truncate marketplace.stripe_control",
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            db.execute(change.encode())
        assert (change, refused.value.sqlstate) == (change, "ST002")


def test_every_try_of_a_generation_sends_the_same_bytes_under_the_same_key(db: Database) -> None:
    first = claimed_call(db)
    lapse_lease(db, first["id"])
    (looked,) = claim(db, worker="worker-2")
    record_one(db, nothing_found(looked))
    (second,) = claim(db, worker="worker-2")
    record_one(db, timeout(second))
    third = claim_post(db, first["id"])

    same = ("id", "action", "stripe_transfer_id", "amount", "currency", "idempotency_key", "metadata")
    assert [[each[name] for name in same] for each in (second, third)] == [[first[name] for name in same]] * 2
    assert len({each["lease_token"] for each in (first, second, third)}) == 3


def test_a_definitive_refusal_takes_the_next_generation(db: Database) -> None:
    first = claimed_call(db)
    record_one(db, refusal(first))

    looked = claim_again(db, first["id"])
    record_one(db, nothing_found(looked))
    second = claim_post(db, first["id"])

    # Of what was looked up, and of what is then sent.
    assert first["idempotency_key"].removesuffix(":1") + ":2" == second["idempotency_key"] == looked["idempotency_key"]
    assert second["metadata"] == {**first["metadata"], "seller_transfers_generation": "2"}


def test_a_look_up_is_told_what_to_look_for_and_writes_no_parameters(db: Database) -> None:
    first = claimed_call(db)
    record_one(db, refusal(first))

    looked = claim_again(db, first["id"])

    same = ("id", "stripe_transfer_id", "amount", "currency", "destination_account")
    assert [looked[name] for name in same] == [first[name] for name in same]
    assert (looked["action"], looked["metadata"]) == ("look_up_reversals", None)
    assert transfer(db, first["id"])["call_params"] is None


def test_parameters_are_stored_at_the_first_claim_and_never_computed_again(db: Database) -> None:
    first = claimed_call(db)
    assert transfer(db, first["id"])["call_params"] == {"amount": 1000, "metadata": first["metadata"]}
    # As a release would that builds its parameters in another way.
    db.execute("""
        create or replace function marketplace._call_params(
          p_row marketplace.seller_transfers, p_database_id uuid)
        returns jsonb language sql immutable as $$ select '{"amount": 1000, "metadata": {"new": "words"}}'::jsonb $$
    """)
    lapse_lease(db, first["id"])
    again = claim_post(db, first["id"])
    record_one(db, refusal(again))
    next_generation = claim_post(db, first["id"])

    assert (again["idempotency_key"], again["metadata"]) == (first["idempotency_key"], first["metadata"])
    assert next_generation["metadata"] == {"new": "words"}
