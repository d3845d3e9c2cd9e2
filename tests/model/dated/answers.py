"""What can become of a call, and what the worker is told."""

from typing import Any, Literal, NamedTuple

PostFate = Literal[
    # what Stripe makes of it
    "done",
    "held",
    "made and failed",
    "refused",
    "short of balance",
    "500",
    "500, yet done",
    "500, done later",
    "429",
    "401",
    "403",
    # what the network makes of it
    "answer lost",
    "request late",
    "request lost",
    "sent twice, 409",
    "proxy says 200",
    "proxy says 400",
    "another reversal",
    "not sent",
    "other action",
]
LookFate = Literal[
    "listed",
    "some pages only",
    "changed between pages",
    "500",
    "400",
    "429",
    "401",
    "no answer",
    "proxy says 200",
    "not sent",
    "other action",
]


class Seen(NamedTuple):
    """A reversal as a look-up saw it."""

    id: str
    amount: int
    status: str
    identity: str | None
    generation: int


class Answer(NamedTuple):
    """What a worker will report, and what kind of answer that is."""

    kind: str
    facts: dict[str, Any]
    seen: tuple[Seen, ...] = ()
    total: int = 0  # of the transfer, where it was looked up


def error(kind: str, status: int, error_type: str, code: str | None, message: str) -> Answer:
    """Stripe refuses, in an error body of its own."""
    facts = {"http_status": status, "error_type": error_type, "error_code": code, "error_message": message}
    return Answer(kind, facts)


def no_such(transfer: str) -> Answer:
    """Stripe does not know the transfer."""
    return error("not found", 404, "invalid_request_error", "resource_missing", f"No such transfer: '{transfer}'")
