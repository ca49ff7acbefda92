"""Accuracy with intervals: of all test points, of kinds of them, and beside another run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdsr_tf.errors import InputError
from kdsr_tf.evaluation.compared_arms import Arm
from kdsr_tf.evaluation.comparison import compare
from kdsr_tf.evaluation.evaluation_files import ORACLE, ORACLE_WARNING
from kdsr_tf.evaluation.rank_metrics import ACCURACY, metric_name
from kdsr_tf.report.finished_run import FinishedRun
from kdsr_tf.schema import HEADLINES


def describe(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Rows of the page, with a value per run; of two the second is compared with the first.

    `InputError` if they were not evaluated on the same test points, or share no cutoff.
    """
    summaries = [run.evaluation.summary for run in runs]
    first = summaries[0]
    cutoffs = [k for k in first["cutoffs"] if all(k in other["cutoffs"] for other in summaries)]
    if not cutoffs:
        raise InputError(
            "The runs have no cutoff in common. Received: evaluate.cutoffs="
            f"{' and '.join(str(summary['cutoffs']) for summary in summaries)}."
        )
    names = [f"{name}_{k}" for name in ACCURACY for k in cutoffs]
    others = [n for n in first["metrics"] if n not in first["intervals"]]
    differences = _differences(runs, cutoffs)
    rows = [
        {
            "name": metric_name(name),
            "values": [_value(summary, name) for summary in summaries],
            "popularity": first["popularity"][name],
            "difference": differences.get(name),
        }
        for name in names
    ]
    return {
        "cutoff": max(cutoffs),
        "rows": _with_largest_end(rows),
        "others": [
            {
                "name": metric_name(name),
                "values": [summary["metrics"].get(name) for summary in summaries],
            }
            for name in others
        ],
        "slices": _slices(summaries, max(cutoffs)),
        "selections": [summary["selection"].replace("_", " ") for summary in summaries],
        "oracle": _oracle(runs),
        "protocol": first["protocol"],
        "counts": first["counts"],
    }


def _oracle(runs: Sequence[FinishedRun]) -> str:
    """The warning, with the names of those whom it is about where there are two."""
    names = [run.name for run in runs if run.evaluation.summary["selection"] == ORACLE]
    if not names:
        return ""
    return ORACLE_WARNING if len(runs) == 1 else f"{' and '.join(names)}: {ORACLE_WARNING}"


def _value(found: dict[str, Any], name: str) -> dict[str, float]:
    low, high = found["intervals"][name]
    return {"value": found["metrics"][name], "low": low, "high": high}


def _differences(runs: Sequence[FinishedRun], cutoffs: Sequence[int]) -> dict[str, Any]:
    if len(runs) < 2:
        return {}
    arms = [Arm(name=str(number), evaluations=(run.evaluation,)) for number, run in enumerate(runs)]
    rows = compare(arms, cutoffs).rows
    return {row.metric: row.difference for row in rows if row.difference is not None}


def _slices(summaries: Sequence[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    shown = []
    for title, groups in summaries[0]["slices"].items():
        shared = [g for g in groups if all(g in s["slices"].get(title, {}) for s in summaries)]
        if not shared:
            continue
        shown.append(
            {
                "name": title.replace("_", " "),
                "metrics": [
                    {
                        "name": metric_name(f"{kind}_{k}"),
                        "rows": [
                            {
                                "name": group,
                                "points": groups[group]["counts"]["test_points"],
                                "values": [
                                    _value(s["slices"][title][group], f"{kind}_{k}")
                                    for s in summaries
                                ],
                            }
                            for group in shared
                        ],
                    }
                    for kind in HEADLINES
                ],
            }
        )
    for kind in range(len(HEADLINES)):
        _with_largest_end([row for part in shown for row in part["metrics"][kind]["rows"]])
    return shown


def _with_largest_end(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to every row the value that fills a bar: the largest end of any of them."""
    full = max((value["high"] for row in rows for value in row["values"]), default=0) or 1.0
    for row in rows:
        row["full"] = full
    return rows
