"""What a terminal-less log receives of a long stage."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kdsr_tf import console


@pytest.fixture
def log(monkeypatch):
    """The console writes into a file, as under a scheduler."""
    text = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=text, width=120))
    return text


def test_log_file_gets_lines_with_an_estimate(log, monkeypatch):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)
    with console.progress("count [words]", total=4) as bar:
        bar.advance(1)
        bar.advance(2)
    lines = [line for line in log.getvalue().splitlines() if line.startswith("count [words]: ")]
    assert [line.split(",")[0] for line in lines] == [
        "count [words]: 1 of 4",
        "count [words]: 3 of 4",
    ]


def test_short_work_leaves_one_line(log):
    with console.progress("count", total=4) as bar:
        bar.advance(4)
    assert len(log.getvalue().strip().splitlines()) == 1


def test_table_aligns_numbers_and_shows_markup_as_text():
    made = console.table("t", ("name", "value"), [("[bold]a", 1234), ("b", 5)])
    assert [column.justify for column in made.columns] == ["left", "right"]
    text = io.StringIO()
    Console(file=text, width=80).print(made)
    assert "[bold]a" in text.getvalue() and "1,234" in text.getvalue()
