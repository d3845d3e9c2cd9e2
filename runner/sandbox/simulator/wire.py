"""What Stripe's objects as JSON have in common."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

EMBEDDED = 10  # an object carries only the newest of a list: the list endpoint has them all
ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def envelope(url: str, data: Sequence[Json], *, has_more: bool) -> Json:
    """Give one page of a list."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def nulls(*names: str) -> Json:
    """Give these members, all null."""
    return dict.fromkeys(names)
