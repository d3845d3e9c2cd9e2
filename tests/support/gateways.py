"""Gateways for tests, calls for them to make, and what an outcome looks like of which nothing is known."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from runner.clock import boottime_seconds
from runner.gateway import Gateway
from tests.support.raw_http import Answer, RawRequest, raw_server

KEY = "sk_test_51Secret"
TOKEN = "6f4c1de2-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Call:
    """A leased call as the database hands it out; an hour of lease unless a test says otherwise."""

    id: int = 7
    action: str = "reverse"
    lease_token: str = TOKEN
    lease_ends: float = field(default_factory=lambda: boottime_seconds() + 3600)
    stripe_transfer_id: str | None = "tr_1Pgc7B"
    stripe_reversal_id: str | None = None
    amount: int = 1100
    currency: str = "usd"
    destination_account: str | None = "acct_1PgafT"
    source_charge: str | None = None
    transfer_group: str | None = None
    idempotency_key: str = "reversal:db:tr_1Pgc7B:re_1:0:1"
    metadata: dict[str, str] | None = field(default_factory=lambda: {"order": "17", "row": "7"})
    created_after: datetime | None = None


def gateway_to(base: str, *, slots: int = 4, deadline: float = 5.0, key: str = KEY, **options: Any) -> Gateway:
    return Gateway(key, base, slots, deadline, **options)


@asynccontextmanager
async def answering(answer: Answer, **options: Any) -> AsyncIterator[tuple[Gateway, list[RawRequest]]]:
    """Give a gateway to a server with this answer, and the list of what reaches the server."""
    async with raw_server(answer) as server, gateway_to(server.base, **options) as gateway:
        yield gateway, server.requests


async def outcome_of(answer: Answer, call: Call | None = None, **options: Any) -> dict[str, Any]:
    """Make one call, a reversal unless another is given.

    Whatever the answer, it must be made once and reported as sent, cleanly, and as JSON.
    """
    async with answering(answer, **options) as (gateway, requests):
        with structlog.testing.capture_logs() as logged:
            outcome = (await gateway.perform(call or Call())).as_json()
        assert len(requests) == 1
    assert logged == []  # whatever comes from outside is an outcome and nothing else
    assert outcome["sent"] is True
    assert "\\u0000" not in json.dumps(outcome)
    json.dumps(outcome, ensure_ascii=False).encode()
    return outcome


def assert_nothing_is_known(outcome: dict[str, Any], http_status: int | None) -> None:
    """Without an object and without an error of Stripe's the database takes an outcome for unknown."""
    assert outcome["http_status"] == http_status
    assert outcome["object"] is None
    assert outcome["found"] is None
    assert outcome["error_type"] is None
    assert outcome["error_code"] is None
    assert outcome["error_message"]
    assert outcome["error_message"].isprintable()
    assert len(outcome["error_message"]) <= 1000
