"""How the demo shows that it goes on: live in a terminal, line by line elsewhere."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LINE_SECONDS = 1.0
_FRAMES_PER_SECOND = 8
_BAR_WIDTH = 40
_INDENT = 2


class Counts(Protocol):
    """How many of the transfers whose money was asked back stand where."""

    @property
    def asked(self) -> int:
        """All of them."""

    @property
    def reversed(self) -> int:
        """The money is back."""

    @property
    def waiting(self) -> int:
        """For a call, or for its answer."""

    @property
    def unknown(self) -> int:
        """Nobody knows yet whether Stripe moved the money."""

    @property
    def failed(self) -> int:
        """Given up, with a reason."""


class Progress:
    """Shows how the refunds stand, and what happens to them. A context manager."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=_FRAMES_PER_SECOND) if live else None
        self._shown_at = -_LINE_SECONDS
        self._shown = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, seconds: float, requested: int, refunds: int, counts: Counts) -> None:
        """Show the counts after so many seconds, with `requested` of the refunds requested so far."""
        if self._live is not None:
            self._live.update(_bars(requested, refunds, counts))
            return
        line = (
            f"{requested} of {refunds} refunds requested: {counts.reversed} transfers reversed,"
            f" {counts.waiting} waiting, {counts.unknown} unknown, {counts.failed} failed"
        )
        over = requested == refunds and counts.waiting + counts.unknown == 0
        if line != self._shown and (over or seconds - self._shown_at >= _LINE_SECONDS):
            self._shown, self._shown_at = line, seconds
            self.tell(seconds, line)

    def tell(self, seconds: float, text: str) -> None:
        """Say what happened after so many seconds."""
        line = Table.grid(padding=(0, 2))
        line.add_column(width=6, justify="right")
        line.add_column()
        line.add_row(f"{seconds:.1f} s", Text(text))
        self._console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


def _bars(requested: int, refunds: int, counts: Counts) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(min_width=11, justify="right", no_wrap=True)  # steady up to 999 of 999
    table.add_column(max_width=_BAR_WIDTH)
    for name, count, total in (
        ("refunds requested", requested, refunds),
        ("transfers reversed", counts.reversed, counts.asked),
        ("waiting", counts.waiting, counts.asked),
        ("outcome unknown", counts.unknown, counts.asked),
        ("permanently failed", counts.failed, counts.asked),
    ):
        table.add_row(name, f"{count} of {total}", ProgressBar(total=max(total, 1), completed=count))
    return Padding(table, (1, 0, 0, _INDENT), expand=False)
