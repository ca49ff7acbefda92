"""What people see while a stage runs: one console, one progress bar, one table.

Messages and progress go to stderr, so that the standard output of a command holds
its result alone and can be piped.
"""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

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


_SECONDS_BETWEEN_LINES = 30.0
"""How often a log file, where no bar can move, gets a line instead."""


class Bar:
    """One running progress bar; `bar.advance(n)` and `bar(n)` report `n` units as done."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)
        self._last_line = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        """Report `amount` further units of work as done."""
        self._progress.advance(self._task, amount)
        now = time.monotonic()
        if not console.is_terminal and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            console.print(self._line())

    __call__ = advance

    def _line(self) -> str:
        task = next(task for task in self._progress.tasks if task.id == self._task)
        line = f"{escape(task.description)}: {task.completed:,.0f}"
        if task.total is not None:
            line += f" of {task.total:,.0f}"
        line += f", {task.elapsed or 0:.0f} s"
        if task.time_remaining is not None:
            line += f", about {task.time_remaining:.0f} s left"
        return line


@contextlib.contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Bar]:
    """Show a progress bar with the remaining time; a spinner where the total is not known."""
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

    Columns that hold numbers only are aligned to the right. Cells are shown as they are, without
    markup; a row has as many as there are columns.
    """
    cells = [list(row) for row in rows]
    made = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for position, heading in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[position], int | float) for row in cells)
        made.add_column(escape(heading), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        made.add_row(*(_shown(cell) for cell in row))
    return made


def cut(text: str, longest: int) -> str:
    """A text of the user's on one line, of so many characters at most (one at least).

    Example:
        >>> cut("Sun\\n and moon", 8), cut("Sun", 8)
        ('Sun and…', 'Sun')
    """
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV with a heading; a row may lack columns that others have."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Headings and rows as a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return escape(str(cell))
