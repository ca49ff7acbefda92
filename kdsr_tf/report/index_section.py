"""What the exported index finds, and what a wider search would cost.

The export's gate measured recall, not time. The curve is measured while the page is
written: the student's item vectors, indexed by `scann` with the exported parameters, are
searched for real users' vectors, one after the other. Where the export found that comparing
with every item is fastest, the curve shows what hashed vectors would have done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scann import scann_ops_pybind

from kdsr_tf.artifacts import Manifest
from kdsr_tf.report import plots

LEAST_ITEMS, MOST_ITEMS = 256, 200_000
"""A smaller catalogue is too little to learn hashes from, a larger one is not indexed again."""

# Those of the layer that the export takes from TensorFlow Recommenders.
_TRAINING_ITERATIONS = 12
_DIMENSIONS_PER_BLOCK = 2

_PARAMETERS = {
    "num_leaves": "leaves",
    "num_leaves_to_search": "leaves searched",
    "num_reordering_candidates": "candidates scored exactly",
}

Search = Callable[[np.ndarray], np.ndarray]


def describe(export: Manifest, vectors: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """Parameters and recall of the published index, and the curve around them.

    Vectors are float32: `(items, dim)`, without padding, and of users `(any, dim)`, to search for.
    """
    index = export.details.get("index", {})
    k = min(export.counts["k"], len(vectors))
    found: dict[str, Any] = {
        "effort": _effort(index, len(vectors), k),
        "parameters": {title: index[name] for name, title in _PARAMETERS.items() if name in index},
        "gate": _of_the_gate(export.details),
        "counts": export.counts,
        "curve": [],
        "svg": "",
    }
    if not found["effort"] or len(vectors) > MOST_ITEMS or not len(queries):
        return found
    found["curve"] = measure(vectors, queries, k, index)
    found["svg"] = _plot(found["curve"], found["effort"], k)
    return found


def _effort(index: dict[str, int], num_items: int, k: int) -> str:
    """What a search can do more or less of; nothing where there is too little to index."""
    if index.get("num_leaves"):
        return "leaves searched"
    if index and num_items > max(k, LEAST_ITEMS - 1):
        return "candidates scored exactly"
    return ""


def _of_the_gate(details: dict[str, Any]) -> dict[str, Any]:
    """What the gate measured, as a table: a row per measure, a column per variant."""
    measured = {
        tuple(name.split(": ", 1)): value for name, value in details.items() if ": " in name
    }
    variants = list(dict.fromkeys(variant for variant, _ in measured))
    return {
        "variants": variants,
        "rows": {
            name: [measured.get((variant, name)) for variant in variants]
            for name in dict.fromkeys(name for _, name in measured)
        },
    }


def measure(
    vectors: np.ndarray, queries: np.ndarray, k: int, index: dict[str, int]
) -> list[dict[str, Any]]:
    """Recall and time per query, for twice and twice the effort and without an index.

    The effort is the leaves searched, from 1; of an index without leaves the candidates
    scored exactly, from `k`. An index that scores all of them is the exhaustive product.

    Returns:
        Per way of searching `effort` (0 for an exhaustive NumPy product), `published`,
        `recall` and `microseconds`, the median.
    """
    leaves, candidates = index["num_leaves"], index["num_reordering_candidates"]
    builder = scann_ops_pybind.builder(vectors, k, "dot_product")
    if leaves:
        published, least, most = index["num_leaves_to_search"], 1, leaves
        builder = builder.tree(leaves, published, training_iterations=_TRAINING_ITERATIONS)
    else:
        published, least, most = candidates % len(vectors), k, min(4 * candidates, len(vectors) - 1)
    searcher = builder.score_ah(_DIMENSIONS_PER_BLOCK).reorder(candidates).build()

    def search_with(effort: int) -> Search:
        limit = {"leaves_to_search" if leaves else "pre_reorder_num_neighbors": effort}
        return lambda query: searcher.search(query, **limit)[0]

    def search_all(query: np.ndarray) -> np.ndarray:
        return np.argpartition(-(vectors @ query), k - 1)[:k]

    exact = [set(search_all(query).tolist()) for query in queries]
    doubled = {least << n for n in range((most // least).bit_length())}
    efforts = sorted({*doubled, published, most} if published else doubled)
    ways = {effort: search_with(effort) for effort in efforts}
    return [
        {"effort": effort, "published": effort == published, **_time(search, queries, exact, k)}
        for effort, search in [*ways.items(), (0, search_all)]
    ]


def _time(search: Search, queries: np.ndarray, exact: list[set[int]], k: int) -> dict[str, float]:
    seconds, recalls = [], []
    for query, right in zip(queries, exact, strict=True):
        started = time.perf_counter()
        answer = search(query)
        seconds.append(time.perf_counter() - started)
        recalls.append(len(right.intersection(answer.tolist())) / k)
    return {"recall": float(np.mean(recalls)), "microseconds": 1e6 * float(np.median(seconds))}


def _plot(curve: list[dict[str, Any]], effort: str, k: int) -> str:
    index = [point for point in curve if point["effort"]]
    [exact] = (point for point in curve if not point["effort"])
    marks = {point["effort"] > 0: point["microseconds"] for point in curve if point["published"]}
    return plots.lines(
        [
            plots.Curve(
                name=f"index, by {effort}",
                x=[point["microseconds"] for point in index],
                y=[point["recall"] for point in index],
                mark=marks.get(True),
            ),
            plots.Curve(
                name="every item",
                x=[exact["microseconds"]],
                y=[exact["recall"]],
                colour=1,
                mark=marks.get(False),
            ),
        ],
        f"Recall@{k} against time",
        "microseconds per query",
        f"recall@{k}",
        notes=[(point["microseconds"], point["recall"], str(point["effort"])) for point in index],
    )
