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


class NotAnEvent(Exception):
    """It is no event of Stripe's; the text says why and quotes nothing of it."""


def parse_event(body: bytes) -> Event:
    """Read the body of a delivery. Raises NotAnEvent."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise NotAnEvent("it is not UTF-8") from None
    except RecursionError:
        raise NotAnEvent(f"it is nested deeper than {DEPTH_LIMIT} levels") from None
    except ValueError:  # of a number with thousands of digits, too
        raise NotAnEvent("it is not JSON") from None
    return read_event(value)


def read_event(value: object) -> Event:
    """Give the event that is in this JSON, fit to be stored. Raises NotAnEvent."""
    if not isinstance(value, dict) or value.get("object") != "event":
        raise NotAnEvent("it is not an object of the kind 'event'")
    for field, pattern in (("id", _ID), ("type", _TYPE)):
        text = value.get(field)
        if not isinstance(text, str) or not pattern.fullmatch(text):
            raise NotAnEvent(f"it has no usable {field}")
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("object"), dict):
        raise NotAnEvent("it has no data.object")
    event: Event = _storable(value, DEPTH_LIMIT)
    return event


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotAnEvent("a key is in one object twice")
    return found


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
