"""What people see while a stage runs: one console, one progress bar, one table.

Messages and progress go to stderr, so that the standard output of a command holds
its result alone and can be piped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console(stderr=True, highlight=False)
"""The console of every message and progress bar."""

output = Console(highlight=False)
"""The console of a command's result, on the standard output."""


class Bar:
    """One running progress bar; `bar.advance(n)` and `bar(n)` report `n` units as done."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def advance(self, amount: int = 1) -> None:
        """Report `amount` further units of work as done."""
        self._progress.advance(self._task, amount)

    __call__ = advance


@contextlib.contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Bar]:
    """Show a progress bar with an estimate of the remaining time.

    Args:
        title: Shown beside the bar.
        total: Units of work; None when unknown (a spinner instead of a bar).

    Yields:
        A `Bar`, whose `advance(amount=1)` reports work as done.

    Example:
        >>> with progress("counting", total=3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        yield Bar(shown, title, total)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table to print with `console.print`.

    Columns that hold numbers only are aligned to the right. Cells are shown as
    they are, without markup.

    Args:
        title: Shown above the table.
        columns: Headings.
        rows: One sequence of cells per row, as many as there are columns.

    Example:
        >>> table("letters", ("letter", "count"), [("a", 3), ("b", 1)]).row_count
        2
    """
    cells = [list(row) for row in rows]
    made = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for position, heading in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[position], int | float) for row in cells)
        made.add_column(escape(heading), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        made.add_row(*(_shown(cell) for cell in row))
    return made


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return escape(str(cell))
