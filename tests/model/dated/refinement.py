"""That the SQL obeys tests/model/rules.py: each claim and report is one that the executable specification allows.

A row of the table is read as a row of that model: dates become what matters of them, policy is left out. Then both do
the same step, and must agree on what comes of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.model.dated.answers import Answer
from tests.model.dated.policy import KEY_MAX_AGE, QUIET
from tests.model.rules import LAPSED, LEASE, Database, Lease, Row, Rules
from tests.model.rules import QUIET as QUIET_TICKS
from tests.model.rules import Answer as AbstractAnswer

Found = Mapping[str, Any]  # a row of seller_transfers

# What the specification calls an answer to a POST. Of others it says nothing.
POSTS: dict[str, AbstractAnswer] = {
    "succeeded": "succeeded",
    "accepted": "accepted",
    "made and failed": "refused",  # known at once, and for this key for ever
    "refused": "refused",
    "short of balance": "refused",
    "already reversed": "refused",
    "other parameters": "other parameters",
    "server error": "server error",
    "replayed server error": "replayed server error",
    "throttled": "throttled",
    "key in use": "key in use",
    "bad key": "throttled",
    "no answer": "no answer",
    "garbled": "strange success",
    "not sent": "not sent",
}
LOOKS: dict[str, AbstractAnswer] = {
    "throttled": "look-up refused",
    "bad key": "look-up refused",
    "unclear": "some pages only",
    "not sent": "not sent",
}

_MANY = 10**9


def abstract(found: Found, now: datetime) -> Row:
    """The row as the specification sees it at that moment."""
    held = found["stripe_reversal_id"] is not None
    lease = None
    if found["lease_token"] is not None:
        sent_at = found["call_last_sent_at"]
        lease = Lease(
            found["lease_action"],
            LAPSED if now >= found["lease_expires_at"] else 0,
            after_quiet=sent_at is None or found["leased_at"] >= sent_at + QUIET,
        )
    return Row(
        status="parked" if found["parked_reason"] is not None else found["status"],
        identity=0,
        generation=found["call_generation"],
        key_age="old" if now - found["call_minted_at"] >= KEY_MAX_AGE else "young",
        sent=found["call_params"] is not None,
        replayed_error=found["call_replayed"],
        # A reversal that Stripe holds may be made or not: that, too, is only known by looking.
        unknown=found["call_unknown"] or held,
        looked=found["call_absent_at"] is not None and not held,
        last_post=QUIET_TICKS,  # in the lease's date
        lease=lease,
    )


def check_claim(before: Found, after: Found, now: datetime) -> None:
    """A claim took the row, or noted that its worker lost it."""
    row, seen = abstract(before, now), abstract(after, now)
    claimed = _specification(before, 1).claim(row, QUIET_TICKS)
    assert claimed is not None, f"not to be claimed: {row}"
    expected, claim = claimed
    if after["lease_token"] is None:  # lost, and not due yet
        assert _knowledge(seen) == _knowledge(expected._replace(sent=row.sent)), (row, seen)
        return
    assert after["lease_action"] == claim.action, (row, seen)
    assert _knowledge(seen) == _knowledge(expected), (row, seen)


def check_report(before: Found, after: Found, answer: Answer, identity: str, now: datetime) -> None:
    """A report was applied to the row."""
    row, seen = abstract(before, now), abstract(after, now)
    assert row.lease is not None
    said = (
        POSTS.get(answer.kind)
        if row.lease.action == "reverse"
        else _look(before, answer, identity, is_late=row.lease.age > LEASE)
    )
    if said is None:
        return
    # How often is policy.
    generations = row.generation if after["status"] == "permanently_failed" else _MANY
    database = _specification(before, generations)
    verdict = database.verdict(row.lease.action, said)
    if verdict == "failed" and after["status"] == "permanently_failed":
        return  # not for lack of keys, but after 45 days
    expected = database.report(row, verdict, QUIET_TICKS, owns=True)
    assert expected.status == seen.status, (said, row, seen)
    if expected.status == "reversal_pending":
        assert _knowledge(seen) == _knowledge(expected), (said, row, seen)


def check_stale_report(before: Found, after: Found, now: datetime) -> None:
    """Somebody else's report changes nothing, but that it may raise a doubt."""
    row, seen = abstract(before, now), abstract(after, now)
    assert seen in (row, row._replace(unknown=True, looked=False)), (row, seen)


def _look(before: Found, answer: Answer, identity: str, *, is_late: bool) -> AbstractAnswer | None:
    if answer.kind != "listed":
        return LOOKS.get(answer.kind)
    ours = [one for one in answer.seen if one.identity == identity]
    if is_late and not any(one.status in ("succeeded", "pending") for one in ours):
        return "some pages only"  # nothing new: only what is there counts, whenever it is reported
    if any(one.status == "succeeded" for one in ours):
        return "found"
    if any(one.status == "pending" for one in ours):
        return "found pending"
    if any(one.generation == before["call_generation"] for one in ours):
        return "found failed"
    if (
        answer.total - sum(one.amount for one in answer.seen if one.status in ("succeeded", "pending"))
        < before["amount"]
    ):
        return None  # it is elsewhere: no matter of the specification
    return "found failed of another generation" if ours else "found nothing"


def _specification(found: Found, generations: int) -> Database:
    whole = found["root_id"] is None and found["amount"] == found["original_amount"]
    return Database(replace(Rules(), look_before_first_post=not whole), generations)


def _knowledge(row: Row) -> tuple[object, ...]:
    return (row.status, row.generation, row.key_age, row.sent, row.replayed_error, row.unknown, row.looked)
