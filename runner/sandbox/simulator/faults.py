# ruff: noqa: D102 - what the methods are for stands in Fault
"""The fault script: rules that say which requests go wrong, how, and how often.

A rule is a JSON object: what to do (`action` and the fields of its class below) and to whom: `match` (all
that is given must fit; nothing given fits every request), `skip` (how many of those it lets pass first),
`times` (how many requests it is applied to, null for all) and `probability` (drawn from a generator seeded
with `seed`, so that a script repeats). Of several rules that fit, the first one added is applied, alone; only a
hold may `go_on` to the next. For example, to lose the answer to one reversal that was executed, and the second
page of a list:

    {"action": "drop_after", "match": {"method": "POST", "path": "/reversals$"}, "times": 1}
    {"action": "drop_before", "match": {"method": "GET", "path": "/reversals$"}, "skip": 1}
"""

import itertools
import random
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from . import errors
from .calls import Call

Seconds = Annotated[float, Field(ge=0, le=3600)]
Stage = Literal["before", "after"]
Delivery = Literal["whole", "half", "hang", "none"]

_HELD_SECONDS = 120.0
_MAX_RULES = 1_000


class Match(BaseModel):
    """Which requests a rule is for: regular expressions are searched for, everything else must be equal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str | None = None
    path: re.Pattern[str] | None = None
    idempotency_key: re.Pattern[str] | None = None
    transfer: str | None = None
    destination: str | None = None
    amount: int | None = None
    metadata: dict[str, str] = {}

    def fits(self, call: Call) -> bool:
        """Whether `call` is meant."""
        metadata = call.params.get("metadata")
        given = metadata if isinstance(metadata, dict) else {}
        return (
            self.method in (None, call.method)
            and (self.path is None or self.path.search(call.path) is not None)
            and (self.idempotency_key is None or self.idempotency_key.search(call.idempotency_key or "") is not None)
            and self.transfer in (None, call.transfer)
            and self.destination in (None, call.params.get("destination"))
            and (self.amount is None or call.params.get("amount") == str(self.amount))
            and all(given.get(key) == value for key, value in self.metadata.items())
        )


class Fault(BaseModel):
    """What all rules have. `id` is given by the simulator, `applied` and `skipped` count requests."""

    model_config = ConfigDict(extra="forbid")

    delivery: ClassVar[Delivery] = "whole"
    """How much of the answer reaches the client."""

    id: int = 0
    match: Match = Match()
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: int = 0
    applied: int = 0
    skipped: int = 0

    def in_execution(self) -> bool:
        """Whether the fault lies in the execution itself, so that it passes over what will be replayed."""
        return False

    def executes(self) -> bool:
        """Whether the request is executed; if not, `substitute` is the answer."""
        return True

    def substitute(self) -> errors.StripeError | tuple[int, dict[str, str], str]:
        """Give the answer in place of an execution: an error, or status, headers and body."""
        return 200, {}, "{}"


class Error(Fault):
    """An error of your choice, without any effect; `stored`: under the idempotency key, to be replayed."""

    action: Literal["error"]
    status: Annotated[int, Field(ge=400, le=599)]
    type: str = "invalid_request_error"
    code: str | None = None
    message: str = "A fault of the simulator's script."
    param: str | None = None
    headers: dict[str, str] = {}
    stored: bool = False

    def in_execution(self) -> bool:
        return self.stored

    def executes(self) -> bool:
        return self.stored

    def substitute(self) -> errors.StripeError:
        return errors.StripeError(
            self.status,
            self.message,
            error_type=self.type,
            code=self.code,
            param=self.param,
            headers=self.headers,
            executed=self.stored,
        )


class Delay(Fault):
    """Wait before executing or after committing; the key and the object are taken meanwhile."""

    action: Literal["delay"]
    seconds: Seconds
    when: Stage = "before"


class Hold(Fault):
    """Stop before executing or after committing until released by name, or until `seconds` are over.

    With `go_on`, the next rule that fits is applied to the same request: it goes wrong when it is let go.
    """

    action: Literal["hold"]
    name: str
    when: Stage = "before"
    seconds: Seconds = _HELD_SECONDS
    go_on: bool = False


class DropBefore(Fault):
    """Close the connection without executing."""

    action: Literal["drop_before"]
    delivery: ClassVar[Delivery] = "none"

    def executes(self) -> bool:
        return False


class DropAfter(Fault):
    """Execute and commit, then close the connection without an answer."""

    action: Literal["drop_after"]
    delivery: ClassVar[Delivery] = "none"


class ExecuteLate(Fault):
    """Close the connection now; the request, held up on its way, arrives `seconds` later (null: on command)."""

    action: Literal["execute_late"]
    seconds: Seconds | None = None
    delivery: ClassVar[Delivery] = "none"

    def executes(self) -> bool:
        return False


class ErrorAfter(Fault):
    """Execute and commit, then answer 500, which is what the key replays; a refusal is answered as it is."""

    action: Literal["error_after"]

    def in_execution(self) -> bool:
        return True


class PendingReversal(Fault):
    """Make the reversal a pending one, to be settled by command; nothing to any other request."""

    action: Literal["pending_reversal"]

    def in_execution(self) -> bool:
        return True


class BendList(Fault):
    """Answer a list otherwise than it is; nothing to any other answer.

    `hide` leaves out that many of the page's first objects, as a copy that lags behind would; `from_start` gives the
    first page whatever the cursor; `has_more` says so.
    """

    action: Literal["bend_list"]
    hide: Annotated[int, Field(ge=0)] = 0
    from_start: bool = False
    has_more: bool | None = None

    def bend(self, body: dict[str, Any]) -> None:
        """Change a whole answer that is a list."""
        if body["object"] == "list":
            del body["data"][: self.hide]
            body["has_more"] = body["has_more"] if self.has_more is None else self.has_more


class Truncated(Fault):
    """Execute and commit, promise the whole answer, send half of it and close."""

    action: Literal["truncated"]
    delivery: ClassVar[Delivery] = "half"


class HangBody(Fault):
    """Send the head and half of the body, then nothing until the client leaves or `seconds` are over."""

    action: Literal["hang_body"]
    committed: bool = True
    seconds: Seconds = _HELD_SECONDS
    delivery: ClassVar[Delivery] = "hang"

    def executes(self) -> bool:
        return self.committed

    def substitute(self) -> tuple[int, dict[str, str], str]:
        return 200, {}, '{"id": "trr_neverfinished", "object": "transfer_reversal"}'


class Redirect(Fault):
    """Answer 302 to `location`, without executing."""

    action: Literal["redirect"]
    location: str

    def executes(self) -> bool:
        return False

    def substitute(self) -> tuple[int, dict[str, str], str]:
        return 302, {"Location": self.location}, ""


class Garbage(Fault):
    """Answer what Stripe never would, without executing: `[1,2]`, a page of HTML, `{"error":"x"}`."""

    action: Literal["garbage"]
    body: str
    status: Annotated[int, Field(ge=200, le=599)] = 200
    content_type: str = "application/json"

    def executes(self) -> bool:
        return False

    def substitute(self) -> tuple[int, dict[str, str], str]:
        return self.status, {"Content-Type": self.content_type}, self.body


Rule = Annotated[
    Error
    | Delay
    | Hold
    | DropBefore
    | DropAfter
    | ExecuteLate
    | ErrorAfter
    | PendingReversal
    | BendList
    | Truncated
    | HangBody
    | Redirect
    | Garbage,
    Field(discriminator="action"),
]

_RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


def read_rules(raw: list[dict[str, Any]]) -> list[Fault]:
    """Check a script. Raises pydantic.ValidationError, which names the rule and the field."""
    return list(_RULES.validate_python(raw))


class FaultScript:
    """The rules in force, in the order they were added."""

    def __init__(self) -> None:
        self.rules: dict[int, Fault] = {}
        self._about: dict[str | None, list[Fault]] = {}
        self._generators: dict[int, random.Random] = {}
        self._last_id = 0

    def add(self, rules: list[Fault]) -> list[int]:
        """Put rules into force; gives their ids. Raises ValueError beyond 1,000 rules."""
        if len(self.rules) + len(rules) > _MAX_RULES:
            raise ValueError(f"at most {_MAX_RULES} rules")
        for rule in rules:
            self._last_id += 1
            rule.id, rule.applied, rule.skipped = self._last_id, 0, 0
            self.rules[rule.id] = rule
            self._about.setdefault(rule.match.transfer, []).append(rule)
            self._generators[rule.id] = random.Random(rule.seed)  # noqa: S311 - repeatable, not secret
        return [rule.id for rule in rules]

    def clear(self, rule_id: int | None = None) -> None:
        """Take one rule, or all, out of force."""
        for each in list(self.rules) if rule_id is None else [rule_id]:
            self.rules.pop(each, None)
            self._generators.pop(each, None)
        self._about = {}
        for rule in self.rules.values():
            self._about.setdefault(rule.match.transfer, []).append(rule)

    def pick(self, call: Call, *, will_be_replayed: bool) -> tuple[Hold | None, Fault | None]:
        """Give the rules to apply to `call`, and count them: a hold that goes on, if there is one, and the rule itself.

        A rule used up stays listed but fits nothing.
        """
        fitting = self._fitting(call, will_be_replayed)
        first = next(fitting, None)
        if isinstance(first, Hold) and first.go_on:
            return first, next(fitting, None)
        return None, first

    def _fitting(self, call: Call, will_be_replayed: bool) -> Iterator[Fault]:
        # Of a thousand rules, those about other transfers are not even looked at.
        about = {None: self._about.get(None, ()), call.transfer: self._about.get(call.transfer, ())}
        for rule in sorted(itertools.chain.from_iterable(about.values()), key=lambda each: each.id):
            if rule.times is not None and rule.applied >= rule.times:
                continue
            if (will_be_replayed and rule.in_execution()) or not rule.match.fits(call):
                continue
            if self._generators[rule.id].random() >= rule.probability:
                continue
            if rule.skipped < rule.skip:
                rule.skipped += 1
                continue
            rule.applied += 1
            yield rule
