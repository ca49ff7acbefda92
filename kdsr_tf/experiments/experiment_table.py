"""How the results of an experiment look: on the screen, in Markdown and in CSV."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

from kdsr_tf.console import csv_text, markdown_table, table
from kdsr_tf.evaluation.rank_metrics import metric_name

if TYPE_CHECKING:
    from kdsr_tf.evaluation.comparison import Difference
    from kdsr_tf.evaluation.significance import Spread
    from kdsr_tf.experiments.experiment_results import ArmResult, Results

_OTHERS = {"best_epoch": ("epoch", 1), "seconds_per_epoch": ("s/epoch", 1)}
_ORACLE, _RETENTION, _IDS = "oracle_", "retention_", "_ids"


def show(results: Results) -> list[Table]:
    """For people at a terminal, where one table with everything would be too wide."""
    experiment = results.experiment
    title = f"{experiment.name}: {experiment.description}"
    tables = [table(title, *_cells(results, differences=False))]
    if results.num_differences:
        title = f"Differences to {experiment.reference}"
        tables.append(table(title, *_cells(results, figures=False)))
    return tables


def legend(results: Results) -> str:
    """What the columns mean, in sentences; the selection rule comes first."""
    selections = " and ".join(one.replace("_", " ") for one in results.selections)
    parts = [
        f"Epochs selected on {selections}",
        f"metrics in %, {results.test_points:,} test points of {results.users:,} users",
    ]
    seeds = sorted({len(arm.seeds) for arm in results.arms})
    if seeds[-1] > 1:
        counts = " or ".join(map(str, seeds))
        parts.append(f"mean over {counts} seeds ± half of its 95% interval (Student's t)")
    else:
        parts.append("one seed, so nothing here says what another seed would give")
    if results.num_differences:
        parts.append(
            f"Δ: difference to {results.experiment.reference}, with p over users (paired "
            "randomisation test) and over seeds (t test; – where there is none), both "
            f"Holm-corrected for {results.num_differences} differences"
        )
    return "; ".join(parts) + "."


def markdown(results: Results) -> str:
    """The whole result as a Markdown document."""
    experiment = results.experiment
    asked = f" Answers {experiment.answers} of the paper." if experiment.answers else ""
    parts = [
        f"# {experiment.name}",
        f"{experiment.description}{asked}",
        markdown_table(*_cells(results)),
        legend(results),
        *(f"Note: {note}" for note in results.notes),
        *(f"Not run: {name}. {reason}" for name, reason in results.failures.items()),
    ]
    return "\n\n".join(parts) + "\n"


def as_csv(results: Results) -> str:
    """One row per arm in full precision; the selection stands in every row."""
    return csv_text([_flat(results, arm) for arm in results.arms])


def _cells(
    results: Results, figures: bool = True, differences: bool = True
) -> tuple[list[str], list[list[str]]]:
    headings, columns = ["arm"], [[arm.name for arm in results.arms]]
    for name in results.columns:
        heading, digits = _heading(name)
        if figures:
            headings.append(heading)
            columns.append([_figure(arm.figures.get(name), digits) for arm in results.arms])
        if differences and any(name in arm.differences for arm in results.arms):
            headings.append(f"Δ {heading}")
            columns.append([_difference(arm.differences.get(name)) for arm in results.arms])
    return headings, [list(row) for row in zip(*columns, strict=True)]


def _heading(name: str) -> tuple[str, int]:
    """Heading and decimals of a column."""
    if name in _OTHERS:
        return _OTHERS[name]
    if name.startswith(_RETENTION):
        modality = name.removeprefix(_RETENTION)
        against = " against ids" if modality.endswith(_IDS) else ""
        return f"retention {modality.removesuffix(_IDS)}{against}", 3
    if name.startswith(_ORACLE):
        return f"{metric_name(name.removeprefix(_ORACLE))} at its own best epoch", 2
    kind = name.rpartition("_")[0]
    return metric_name(name), 3 if kind.endswith(("coverage", "diversity")) else 2


def _figure(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    half = spread.high - spread.mean
    return f"{spread.mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    seeds = "–" if found.seeds_p_holm is None else f"{found.seeds_p_holm:.4f}"
    return f"{found.value:+.2f} (p {found.p_holm:.4f}, {seeds})"


def _flat(results: Results, arm: ArmResult) -> dict[str, object]:
    row: dict[str, object] = {
        "arm": arm.name,
        "seeds": " ".join(map(str, arm.seeds)),
        "selection": " and ".join(results.selections),
    }
    for name in results.columns:
        spread = arm.figures.get(name)
        if spread is not None:
            ends = [None if math.isnan(end) else end for end in (spread.low, spread.high)]
            row |= {name: spread.mean, f"{name}_low": ends[0], f"{name}_high": ends[1]}
        found = arm.differences.get(name)
        if found is not None:
            low, high = found.interval
            row |= {
                f"{name}_difference": found.value,
                f"{name}_difference_users_low": low,
                f"{name}_difference_users_high": high,
                f"{name}_p_users": found.p_value,
                f"{name}_p_users_holm": found.p_holm,
                f"{name}_p_seeds": found.seeds_p_value,
                f"{name}_p_seeds_holm": found.seeds_p_holm,
            }
    return row
