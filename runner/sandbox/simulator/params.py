"""Form-encoded parameters in bracket notation, and the checks Stripe makes before it executes anything."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from . import errors

Value = str | dict[str, str] | list[str]

_NAME = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_CURRENCY = re.compile(r"[a-zA-Z]{3}")
_LISTS = {"expand", "types"}  # elsewhere `x[0]` is a member named "0", as in metadata
_MAX_FIELDS = 1_000
_MAX_INTEGER = 999_999_999_999
_TEXT_LIMIT = 5_000
_METADATA_LIMITS = (50, 40, 500)  # keys, characters of a key, characters of a value


def decode(encoded: str) -> dict[str, Value]:
    """Turn `a=1&metadata[k]=v&expand[]=x` into {"a": "1", "metadata": {"k": "v"}, "expand": ["x"]}.

    Of a name given twice the last one counts. Raises StripeError (400) for anything nested deeper or not
    decodable.
    """
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:  # bad UTF-8, too many fields
        raise errors.StripeError(400, "Invalid request: the parameters cannot be decoded.") from None
    params: dict[str, Value] = {}
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        if match is None:
            raise errors.parameter_unknown([name])
        outer, inner = match.groups()
        if inner is None:
            params[outer] = value
        elif inner == "" or outer in _LISTS:
            held = params.setdefault(outer, [])
            if not isinstance(held, list):
                raise errors.invalid_parameter(outer, f"Invalid array: {outer}")
            held.append(value)
        else:
            nested = params.setdefault(outer, {})
            if not isinstance(nested, dict):
                raise errors.invalid_parameter(outer, f"Invalid object: {outer}")
            nested[inner] = value
    return params


@dataclass(frozen=True, slots=True)
class Span:
    """A range of creation times, seconds since the epoch, ends included; null is open."""

    first: int | None = None
    last: int | None = None

    def __contains__(self, moment: int) -> bool:
        return (self.first is None or moment >= self.first) and (self.last is None or moment <= self.last)


class Params:
    """Typed reading of decoded parameters; every method raises StripeError (400, not stored) as Stripe would."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def only(self, *known: str) -> None:
        """Refuse every parameter that is not `known`."""
        unknown = [name for name in self.raw if name not in known]
        if unknown:
            raise errors.parameter_unknown(unknown)

    def text(self, name: str, *, limit: int = _TEXT_LIMIT) -> str | None:
        """Give a string of at most `limit` characters; null where absent or empty (Stripe's way to unset)."""
        value = self.raw.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise errors.invalid_parameter(name, f"Invalid string: {name}")
        if len(value) > limit:
            raise errors.invalid_parameter(name, f"Invalid string: must be at most {limit} characters")
        return value

    def required_text(self, name: str) -> str:
        """Give a string that must be there."""
        if self.raw.get(name) == "":
            raise errors.parameter_empty(name)
        value = self.text(name)
        if value is None:
            raise errors.parameter_missing(name)
        return value

    def integer(self, name: str, *, minimum: int, maximum: int = _MAX_INTEGER) -> int | None:
        """Give a whole number within the bounds; null where absent."""
        value = self.raw.get(name)
        if value is None:
            return None
        if value == "":
            raise errors.parameter_empty(name)
        # Up to 20 digits is enough to tell "too large" from garbage without converting unbounded input.
        if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,20}", value):
            raise errors.invalid_integer(name, str(value)[:100])
        number = int(value)
        if number < minimum:
            raise errors.integer_out_of_bounds(name, "greater", minimum)
        if number > maximum:
            raise errors.integer_out_of_bounds(name, "less", maximum)
        return number

    def required_integer(self, name: str, *, minimum: int) -> int:
        """Give a whole number that must be there."""
        number = self.integer(name, minimum=minimum)
        if number is None:
            raise errors.parameter_missing(name)
        return number

    def currency(self) -> str:
        """Give the required parameter `currency` as three lower-case letters."""
        value = self.required_text("currency")
        if not _CURRENCY.fullmatch(value):
            raise errors.invalid_parameter("currency", f"Invalid currency: {value[:100].lower()}")
        return value.lower()

    def flag(self, name: str) -> bool:
        """Give a boolean, false where absent."""
        value = self.raw.get(name, "false")
        if value not in ("true", "false"):
            raise errors.invalid_parameter(name, f"Invalid boolean: {str(value)[:100]}")
        return bool(value == "true")

    def metadata(self) -> dict[str, str]:
        """Give the metadata, within Stripe's limits; empty values unset."""
        value = self.raw.get("metadata", {})
        if value == "":
            return {}
        if not isinstance(value, dict):
            raise errors.invalid_parameter("metadata", "Invalid hash: metadata")
        most_keys, key_limit, value_limit = _METADATA_LIMITS
        metadata = {key: text for key, text in value.items() if text != ""}
        if len(metadata) > most_keys:
            raise errors.invalid_parameter("metadata", f"Metadata can have up to {most_keys} keys.")
        for key, text in metadata.items():
            if len(key) > key_limit:
                raise errors.invalid_parameter("metadata", f"Metadata keys can have up to {key_limit} characters.")
            if len(text) > value_limit:
                raise errors.invalid_parameter(
                    f"metadata[{key}]", f"Metadata values can have up to {value_limit} characters."
                )
        return metadata

    def texts(self, name: str, *, most: int) -> list[str]:
        """Give a list of at most `most` strings; empty where absent."""
        value = self.raw.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise errors.invalid_parameter(name, f"Invalid array: {name}")
        return value

    def expand(self, allowed: Iterable[str]) -> frozenset[str]:
        """Give the paths to expand, each one of `allowed`."""
        value = self.raw.get("expand", [])
        if not isinstance(value, list):
            raise errors.invalid_parameter("expand", "Invalid array: expand")
        for path in value:
            if path not in allowed:
                raise errors.invalid_parameter("expand", f"This property cannot be expanded ({path[:100]}).")
        return frozenset(value)

    def created(self) -> Span:
        """Give the filter `created`: an exact second, or an object of gt, gte, lt, lte."""
        value = self.raw.get("created", {})
        if not isinstance(value, dict):
            exact = self.integer("created", minimum=0)
            return Span(exact, exact)
        bounds = Params(value)
        bounds.only("gt", "gte", "lt", "lte")
        first, last = bounds.integer("gte", minimum=0), bounds.integer("lte", minimum=0)
        if (after := bounds.integer("gt", minimum=0)) is not None:
            first = max(after + 1, first or 0)
        if (before := bounds.integer("lt", minimum=0)) is not None:
            last = before - 1 if last is None else min(before - 1, last)
        return Span(first, last)
