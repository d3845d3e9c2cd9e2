"""What `make test` leaves to longer runs: pytest does it with `--hypothesis-profile=long`, as a target of its own."""

from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")

IS_LONG = settings.get_current_profile_name() == "long"


def only_long(*cases: T) -> tuple[T, ...]:
    """The cases in a long run, none in `make test`."""
    return cases if IS_LONG else ()
