"""What an endpoint works on, and how it gives a page of a list."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from . import errors
from .objects import Account, Charge, Transfer
from .params import Params
from .world import World

_DEFAULT_PAGE = 10
_LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """What an endpoint works on: the world of the key's mode, and the other, to tell a mix-up of the two."""

    world: World
    other: World

    @property
    def other_mode(self) -> str:
        """The name of the mode this is not."""
        return "live" if self.other.livemode else "test"

    def transfer(self, object_id: str, param: str) -> Transfer:
        """Give a transfer named in a path."""
        if (found := self.world.transfers.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.transfers else None
            raise errors.no_such("transfer", object_id, param=param, other_mode=elsewhere)
        return found

    def destination(self, object_id: str) -> Account:
        """Give the connected account named in the parameter `destination`."""
        if (found := self.world.accounts.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.accounts else None
            raise errors.no_such("destination", object_id, param="destination", other_mode=elsewhere, status=400)
        return found

    def source(self, object_id: str) -> Charge:
        """Give the charge named in the parameter `source_transaction`."""
        if (found := self.world.payments.charges.get(object_id)) is None:
            elsewhere = self.other_mode if object_id in self.other.payments.charges else None
            raise errors.no_such("charge", object_id, param="source_transaction", other_mode=elsewhere, status=400)
        return found


class _Numbered(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def seq(self) -> int: ...


_Row = TypeVar("_Row", bound=_Numbered)


def page_of(
    oldest_first: Sequence[_Row],
    known: Mapping[str, _Row],
    params: Params,
    noun: str,
    wanted: Callable[[_Row], bool] = lambda _: True,
) -> tuple[list[_Row], bool]:
    """Give one page of a list, newest first, and whether there is more.

    Which page: by `limit`, `starting_after` and `ending_before`, whose ids are looked up in `known`.
    """
    limit = params.integer("limit", minimum=1, maximum=_LARGEST_PAGE) or _DEFAULT_PAGE
    after, before = params.text("starting_after"), params.text("ending_before")
    if after is not None and before is not None:
        raise errors.invalid_parameter("starting_after", "Only one of starting_after and ending_before can be used.")

    def number(cursor: str, param: str) -> int:
        if cursor not in known:
            raise errors.no_such(noun, cursor, param=param, status=400)
        return known[cursor].seq

    def seq(row: _Row) -> int:
        return row.seq

    if before is not None:
        start = bisect_right(oldest_first, number(before, "ending_before"), key=seq)
        indexes = range(start, len(oldest_first))
    else:
        start = len(oldest_first)
        if after is not None:
            start = bisect_left(oldest_first, number(after, "starting_after"), key=seq)
        indexes = range(start - 1, -1, -1)
    rows: list[_Row] = []
    for index in indexes:
        if wanted(oldest_first[index]):
            rows.append(oldest_first[index])
            if len(rows) > limit:
                break
    page = rows[:limit]
    return (page[::-1] if before is not None else page), len(rows) > limit
