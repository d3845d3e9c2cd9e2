"""What the worker's log says of an outcome, and how loud."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from runner.outcome import Outcome, StripeObject
from runner.records import RecordedOutcome
from runner.worker import _facts, _level

LATER = datetime(2026, 12, 1, tzinfo=UTC)
TRANSFER = StripeObject(id="tr_1", object="transfer", amount=5, currency="usd", amount_reversed=5)
REVERSAL = StripeObject(id="trr_1", object="transfer_reversal", amount=5, currency="usd", transfer="tr_1")
CALL = Outcome(id=7, action="reverse", lease_token="a", sent=True, http_status=200, object=REVERSAL)
REFUSED = replace(CALL, object=None, http_status=400, error_type="invalid_request_error", error_message="No.")
LOOK_UP = replace(CALL, action="look_up_reversals", object=TRANSFER, found=(REVERSAL,))


@pytest.mark.parametrize(
    ("outcome", "found"),
    [(CALL, None), (LOOK_UP, 1), (replace(LOOK_UP, found=()), 0), (replace(LOOK_UP, object=None, found=None), None)],
)
def test_a_line_says_how_many_were_found_and_not_what(outcome: Outcome, found: int | None) -> None:
    facts: dict[str, Any] = _facts(outcome)

    assert facts.get("found") == found
    assert "found" not in facts or type(facts["found"]) is int


@pytest.mark.parametrize(
    ("outcome", "next_retry_at", "level"),
    [
        # Made, refused for now, refused for good.
        (CALL, None, "info"),
        (REFUSED, LATER, "info"),
        (REFUSED, None, "warning"),
        (replace(REFUSED, http_status=401), LATER, "warning"),
        # Looked up: found, so it is over; nothing there, so it goes on; nothing there, and it is over all the same.
        (LOOK_UP, None, "info"),
        (replace(LOOK_UP, found=()), LATER, "info"),
        (replace(LOOK_UP, found=()), None, "warning"),
        (replace(LOOK_UP, object=None, found=None, http_status=404), None, "warning"),
        (replace(LOOK_UP, object=None, found=None, http_status=500), LATER, "info"),
        (replace(LOOK_UP, object=None, found=None, http_status=403), LATER, "warning"),
        # Nothing was done.
        (replace(REFUSED, sent=False, http_status=None), None, "info"),
    ],
)
def test_a_row_that_ends_without_a_reversal_is_a_warning(
    outcome: Outcome, next_retry_at: datetime | None, level: str
) -> None:
    assert level_of(outcome, RecordedOutcome(7, "applied", "any", "any", next_retry_at)) == level


def test_an_outcome_whose_row_is_gone_is_an_error() -> None:
    assert level_of(LOOK_UP, RecordedOutcome(7, "stale", None, None, None)) == "error"


def level_of(outcome: Outcome, result: RecordedOutcome) -> str:
    with structlog.testing.capture_logs() as logged:
        _level(outcome, result)("outcome")
    return str(logged[0]["log_level"])
