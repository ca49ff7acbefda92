"""The data: how much of it, how it is spread, and what was set aside."""

from __future__ import annotations

import json
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kdsr_tf import cores, stages
from kdsr_tf.artifacts import find_files, join
from kdsr_tf.evaluation.evaluation_inputs import ItemCatalogue
from kdsr_tf.evaluation.summary import head_items
from kdsr_tf.report import plots
from kdsr_tf.report.finished_run import FinishedRun

_EXAMPLES = 3
_LONGEST_EXAMPLE = 220
_POINTS = 120
_BINS = 30
_SHOWN_USERS = 0.99


def describe(run: FinishedRun, catalogue: ItemCatalogue) -> dict[str, Any]:
    """Counts, presence of modalities, plots, and rejects."""
    sequences = run.inputs["sequences"]
    with fsspec.open(join(stages.location(run.config, "sequences"), "statistics.json")) as file:
        statistics = json.load(file)
    counts, head_share = catalogue.train_counts, run.config.evaluate.head_share
    is_head = head_items(counts, head_share)
    return {
        "counts": sequences.counts,
        "sparsity": statistics.get("sparsity"),
        "head_share": head_share,
        "head_interactions": float(counts[is_head].sum() / max(1, counts.sum())),
        "encoded": {
            m: run.inputs[f"features/{m}"].counts["items"] / max(1, len(catalogue))
            for m in run.config.modalities
        },
        "plots": _plots(counts[1:], statistics["lengths"]),
        "rejects": _rejects(run),
        "cores": _cores(statistics.get("cores", []), run.config.prepare.k_core),
    }


def _cores(sizes: list[dict[str, int]], chosen: int) -> dict[str, Any]:
    """What the k-core kept; without rows where an earlier version has prepared the data."""
    rows = [
        {
            "k": size["k"],
            "chosen": size["k"] == max(chosen, 1),
            "kept": [(size[kind], share) for kind, share in cores.shares(size, sizes).items()],
        }
        for size in sizes
    ]
    return {"rows": rows, "warning": cores.cores_warning(sizes, chosen)}


def _plots(counts: np.ndarray, lengths: dict[str, int]) -> list[dict[str, str]]:
    falling = np.sort(counts)[::-1]
    falling = falling[falling > 0]
    places = np.unique(np.geomspace(1, max(1, len(falling)), _POINTS).astype(int))
    curve = plots.Curve(name="items", x=places.tolist(), y=falling[places - 1].tolist())
    sizes = np.array([int(length) for length in lengths])
    users = np.array(list(lengths.values()))
    order = np.argsort(sizes)
    longest = sizes[order][np.searchsorted(users[order].cumsum(), _SHOWN_USERS * users.sum())]
    width = -(-(longest + 1 - sizes.min()) // _BINS)
    edges = np.arange(sizes.min(), longest + width + 1, width)
    heights, _ = np.histogram(sizes, edges, weights=users)
    left_out = f"{1 - _SHOWN_USERS:.0%}"
    return [
        {
            "title": "Popularity of items",
            "say": "Train interactions of each item, the most popular first.",
            "svg": plots.lines(
                [curve], "Popularity of items", "rank of the item", logarithmic="xy"
            ),
        },
        {
            "title": "Length of histories",
            "say": f"Users by their number of interactions; the longest {left_out} left out.",
            "svg": plots.bars(edges, heights, "Length of histories", "interactions"),
        },
    ]


def _rejects(run: FinishedRun) -> list[dict[str, Any]]:
    """Reasons with their number and examples, by artifact."""
    found = []
    for name in ("sequences", *(f"features/{m}" for m in run.config.modalities)):
        for path in find_files(stages.location(run.config, name), "rejected-*.parquet"):
            with fsspec.open(path, "rb") as file:
                table = pq.read_table(file)
            for reason in table["reason"].unique().to_pylist():
                rows = table.filter(pc.equal(table["reason"], reason))
                found.append(
                    {
                        "artifact": name,
                        "reason": reason,
                        "number": rows.num_rows,
                        "examples": [
                            f"{row['where']}: {row['row']}"[:_LONGEST_EXAMPLE]
                            for row in rows.slice(0, _EXAMPLES).to_pylist()
                        ],
                    }
                )
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for one in found:
        known = merged.setdefault(
            (one["artifact"], one["reason"]), one | {"number": 0, "examples": []}
        )
        known["number"] += one["number"]
        known["examples"] = (known["examples"] + one["examples"])[:_EXAMPLES]
    return sorted(merged.values(), key=lambda one: -one["number"])
