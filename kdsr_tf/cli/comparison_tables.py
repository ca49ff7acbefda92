"""How a comparison of runs looks: on the screen, in Markdown, CSV and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from kdsr_tf.console import console, csv_text, markdown_table, output, table
from kdsr_tf.evaluation.comparison import Comparison, Row
from kdsr_tf.evaluation.rank_metrics import metric_name

_DIFFERENCES = (
    ("diff.", "value", True),
    ("diff. 95% users", "interval", True),
    ("p users", "p_value", False),
    ("Holm", "p_holm", False),
    ("diff. 95% seeds", "seeds_interval", True),
    ("p seeds", "seeds_p_value", False),
    ("Holm", "seeds_p_holm", False),
)
"""Heading, field of `Difference` and whether it has a sign."""


def show_comparison(found: Comparison, style: str | None) -> None:
    """Print a comparison as `markdown`, `csv` or `json`, or for a terminal if the style is None."""
    if style is None:
        _show(found)
        return
    if style == "csv":
        _show_notes(found, console)
    click.echo(_STYLES[style](found))


def _show(found: Comparison) -> None:
    # One table with everything would be too wide for a terminal.
    output.print(table(_title(found), *_cells(found, differences=False)))
    if len(found.runs) > 1:
        output.print(table(_title_of_differences(found), *_cells(found, figures=False)))
    output.print(_legend(found), markup=False)
    beyond = _beyond_accuracy(found)
    if beyond is not None:
        output.print(table("Coverage and diversity (all test points)", *beyond))
    _show_notes(found, output)


def _show_notes(found: Comparison, where: Console) -> None:
    for note in found.notes:
        where.print(f"Note: {note}", style="yellow", markup=False)


def _title(found: Comparison) -> str:
    where = "".join(f", {name}={group}" for name, group in found.where.items())
    return f"Test metrics in %, {found.test_points:,} test points of {found.users:,} users{where}"


def _title_of_differences(found: Comparison) -> str:
    return f"Differences to {found.runs[0]['name']}"


def _legend(found: Comparison) -> str:
    differences = [row.difference for row in found.rows if row.difference is not None]
    tests = sorted({one.seeds_test for one in differences if one.seeds_test is not None})
    parts = ["Intervals over users: bootstrap"]
    if any(row.seeds_interval is not None for row in found.rows):
        parts.append("over seeds: Student's t")
    if differences:
        parts.append("p over users: paired randomisation test")
    if tests:
        parts.append(f"over seeds: {', '.join(tests)}")
    if len(differences) > 1:
        parts.append(f"Holm: corrected for {len(differences)} differences")
    return "; ".join(parts) + "."


def _cells(
    found: Comparison, figures: bool = True, differences: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for people; columns that would be empty are left out."""
    rows = [row for row in found.rows if figures or row.difference is not None]
    columns: list[tuple[str, list[str]]] = [
        ("metric", [metric_name(row.metric) for row in rows]),
        ("run", [row.run for row in rows]),
    ]
    if figures:
        columns += [
            ("value", [f"{row.value:.2f}" for row in rows]),
            ("95% users", [_interval(row.interval) for row in rows]),
            ("95% seeds", [_interval(row.seeds_interval) for row in rows]),
        ]
    if differences:
        columns += [
            (heading, [_of_difference(row, key, signed) for row in rows])
            for heading, key, signed in _DIFFERENCES
        ]
    columns = [column for column in columns if any(column[1])]
    cells = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    return [heading for heading, _ in columns], cells


def _of_difference(row: Row, key: str, signed: bool = False) -> str:
    if row.difference is None:
        return ""
    value = getattr(row.difference, key)
    if value is None or isinstance(value, tuple):
        return _interval(value, signed)
    return f"{value:+.2f}" if signed else f"{value:.4f}"


def _interval(ends: Sequence[float] | None, signed: bool = False) -> str:
    if ends is None:
        return ""
    low, high = (f"{end:{'+' if signed else ''}.2f}" for end in ends)
    return f"{low} to {high}" if signed else f"{low}–{high}"


def _beyond_accuracy(found: Comparison) -> tuple[list[str], list[list[str]]] | None:
    names = list(found.runs[0]["beyond_accuracy"])
    rows = [
        [metric_name(name), *(_number(run["beyond_accuracy"].get(name)) for run in found.runs)]
        for name in names
    ]
    return (["metric", *(run["name"] for run in found.runs)], rows) if names else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _markdown(found: Comparison) -> str:
    several = f". {_title_of_differences(found)}" if len(found.runs) > 1 else ""
    parts = [f"{_title(found)}{several}.", markdown_table(*_cells(found)), _legend(found)]
    beyond = _beyond_accuracy(found)
    if beyond is not None:
        parts.append(markdown_table(*beyond))
    return "\n\n".join([*parts, *(f"Note: {note}" for note in found.notes)])


def _csv(found: Comparison) -> str:
    """Long form, full precision; the selection stands in every row."""
    selections = {run["name"]: " and ".join(run["selection"]) for run in found.runs}
    rows = [
        _flat(dataclasses.asdict(row)) | {"selection": selections[row.run]} for row in found.rows
    ]
    return csv_text(rows).rstrip("\n")


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        title = f"{prefix}{name}" if name != "value" or not prefix else prefix.rstrip("_")
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}_")
        elif name.endswith("interval"):
            low, high = value or (None, None)
            stem = title.removesuffix("interval")
            flat |= {f"{stem}low": low, f"{stem}high": high}
        elif name != "difference":
            flat[title] = value
    return flat


def _json(found: Comparison) -> str:
    return json.dumps(dataclasses.asdict(found), indent=2)


_STYLES = {"markdown": _markdown, "csv": _csv, "json": _json}
