"""Stripe's events as they come from outside, made fit for the database or refused.

An event is kept as it came but for what PostgreSQL cannot hold (NUL, lone surrogates) and nobody should (secret keys).
What no honest event has is refused: it would mean one thing to one reader and another to the next.
"""

import json
import math
import re
from typing import Any, NoReturn

from runner.clean import storable_text

Event = dict[str, Any]

# Stripe nests a dozen levels at most, in an event with everything expanded.
DEPTH_LIMIT = 50

_ID = re.compile(r"evt_[A-Za-z0-9_]{1,250}")
_TYPE = re.compile(r"[A-Za-z0-9_.]{1,255}")
_BIGINT = 2**63
# Without one of these no text of a body has to be cleaned: what PostgreSQL cannot hold is written with an escape, and a
# key has a beginning.
_TO_BE_CLEANED = (b"\\u", b"k_test_", b"k_live_", b"k_org_", b"whsec_")


class NotAnEvent(Exception):
    """It is no event of Stripe's; the text says why and quotes nothing of it."""


def parse_event(body: bytes) -> Event:
    """Read the body of a delivery. Raises NotAnEvent."""
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_bounded_int,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise NotAnEvent("it is not UTF-8") from None
    except RecursionError:
        raise NotAnEvent(f"it is nested deeper than {DEPTH_LIMIT} levels") from None
    except ValueError:  # of a number with thousands of digits, too
        raise NotAnEvent("it is not JSON") from None
    is_flat = body.count(b"{") + body.count(b"[") <= DEPTH_LIMIT
    is_storable = is_flat and not any(each in body for each in _TO_BE_CLEANED)
    return read_event(value, is_storable=is_storable)


def read_event(value: object, *, is_storable: bool = False) -> Event:
    """Give the event that is in this JSON, fit to be stored, if it is not known to be. Raises NotAnEvent."""
    if isinstance(value, dict) and value.get("object") == "v2.core.event":
        raise NotAnEvent("it is a thin event, which does not say what happened: subscribe with snapshot payloads")
    if not isinstance(value, dict) or value.get("object") != "event":
        raise NotAnEvent("it is not an object of the kind 'event'")
    for field, pattern in (("id", _ID), ("type", _TYPE)):
        text = value.get(field)
        if not isinstance(text, str) or not pattern.fullmatch(text):
            raise NotAnEvent(f"it has no usable {field}")
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("object"), dict):
        raise NotAnEvent("it has no data.object")
    event: Event = value if is_storable else _storable(value, DEPTH_LIMIT)
    return event


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotAnEvent("a key is in one object twice")
    return found


def _bounded_int(digits: str) -> int:
    number = int(digits)
    if not -_BIGINT <= number < _BIGINT:
        raise NotAnEvent("a number in it is out of range")
    return number


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotAnEvent("a number in it is out of range")  # an infinity comes of 1e999, which is JSON
    return number


def _refuse_constant(_name: str) -> NoReturn:
    raise NotAnEvent("NaN and Infinity are not JSON")


def _storable(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return storable_text(value)
    if kind is dict or kind is list:
        if depth == 0:
            raise NotAnEvent(f"it is nested deeper than {DEPTH_LIMIT} levels")
        if kind is list:
            return [_storable(element, depth - 1) for element in value]
        # Two keys may be the same once they are cleaned.
        return _without_duplicates([(storable_text(key), _storable(value[key], depth - 1)) for key in value])
    if (kind is int and not -_BIGINT <= value < _BIGINT) or (kind is float and not math.isfinite(value)):
        raise NotAnEvent("a number in it is out of range")  # an infinity comes of 1e999, which is JSON
    return value
