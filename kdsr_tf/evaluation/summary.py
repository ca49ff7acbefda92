"""What ranking found, as numbers: metrics with intervals, for all points and per slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdsr_tf.evaluation import rank_metrics, resampling
from kdsr_tf.evaluation.slices import Slice
from kdsr_tf.schema import PAD

_DIVERSITY_LISTS = 10_000


@dataclasses.dataclass(kw_only=True)
class TestPoints:
    """Test points in the order they were read.

    Args:
        user_ids: User of each point.
        positions: Index of the target in the user's sequence.
        window_starts: Index of the first item of the history.
        targets: Target items.
    """

    __test__ = False

    user_ids: list[str]
    positions: np.ndarray
    window_starts: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(kw_only=True)
class Rankings:
    """What ranking found, per test point.

    Args:
        points: The test points.
        ranks: Rank of the target, 1 is best.
        popularity_ranks: Its rank by train frequency.
        lists: The best items `(points, k)`, k the largest cutoff; `PAD` where no item is left.
    """

    points: TestPoints
    ranks: np.ndarray
    popularity_ranks: np.ndarray
    lists: np.ndarray


def summarise(
    found: Rankings,
    slices: Mapping[str, Slice],
    spaces: Mapping[str, tuple[np.ndarray, np.ndarray]],
    num_items: int,
    cutoffs: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """Metrics over all test points, and over the points of every slice.

    Args:
        found: The rankings.
        slices: Result of `slice_points`.
        spaces: Per modality, vectors and presence of the items.
        num_items: Size of the catalogue.
        cutoffs: Values of k.
        seed: Seed of the bootstrap.

    Returns:
        `counts`: `test_points` and `users`. `metrics`: `hr_k`, `mrr_k`, `ndcg_k` in %,
        `coverage_k` (share of items that any list shows) and `<modality>_diversity_k`
        (over at most 10,000 evenly spaced test points). `intervals`: 95% bootstrap over
        users, in %. `popularity`: accuracy of the popularity ranking, in %. `slices`:
        per slice and group that has a test point, its `counts`, `metrics` (accuracy
        only) and `intervals`.
    """
    values = accuracy(found.ranks, cutoffs)
    popular = accuracy(found.popularity_ranks, cutoffs)
    everything = np.zeros(len(found.ranks), np.int8)
    parts = _describe_groups(
        {"": Slice(("all",), everything), **slices}, values, found.points.user_ids, seed
    )
    whole = parts.pop("")["all"]
    return {
        "counts": whole["counts"],
        "metrics": whole["metrics"] | _beyond_accuracy(found.lists, spaces, num_items, cutoffs),
        "intervals": whole["intervals"],
        "popularity": {name: float(value.mean()) for name, value in popular.items()},
        "slices": parts,
    }


def accuracy(ranks: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """`hr_k`, `mrr_k` and `ndcg_k` of every test point, in %, from ranks `(points,)`."""
    return {
        f"{name}_{k}": 100 * function(ranks, k)
        for name, function in rank_metrics.ACCURACY.items()
        for k in cutoffs
    }


def _describe_groups(
    slices: Mapping[str, Slice],
    values: Mapping[str, np.ndarray],
    user_ids: Sequence[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Counts, means and intervals of every group; one draw of users serves them all."""
    names, columns = list(values), np.stack(list(values.values()), axis=1)
    known, users = np.unique(user_ids, return_inverse=True)
    groups, sums, counts = [], [], []
    for title, (labels, codes) in slices.items():
        for code, label in enumerate(labels):
            rows = codes == code
            if rows.any():
                groups.append((title, label))
                sums.append(resampling.user_sums(columns[rows], users[rows], len(known)))
                counts.append(np.bincount(users[rows], minlength=len(known)))
    drawn = resampling.bootstrap_means(np.concatenate(sums, axis=1), np.stack(counts, axis=1), seed)
    lows, highs = (
        ends.reshape(len(groups), len(names)) for ends in resampling.percentile_interval(drawn)
    )
    described: dict[str, dict[str, Any]] = {title: {} for title in slices}
    for (title, label), total, number, low, high in zip(
        groups, sums, counts, lows, highs, strict=True
    ):
        means = total.sum(axis=0) / number.sum()
        described[title][label] = {
            "counts": {"test_points": int(number.sum()), "users": int(np.count_nonzero(number))},
            "metrics": dict(zip(names, means.tolist(), strict=True)),
            "intervals": {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)},
        }
    return described


def _beyond_accuracy(
    lists: np.ndarray,
    spaces: Mapping[str, tuple[np.ndarray, np.ndarray]],
    num_items: int,
    cutoffs: Sequence[int],
) -> dict[str, float]:
    values: dict[str, float] = {}
    step = -(-len(lists) // _DIVERSITY_LISTS)
    for k in cutoffs:
        shown = lists[:, :k]
        values[f"coverage_{k}"] = np.count_nonzero(np.unique(shown) != PAD) / num_items
        for modality, (vectors, present) in spaces.items():
            diversity = rank_metrics.mean_diversity(shown[::step], vectors, present)
            if diversity is not None:
                values[f"{modality}_diversity_{k}"] = diversity
    return values
