"""What ranking found, as numbers: metrics with intervals, for all points and per slice.

A mean over all test points hides for whom a model works. A slice divides the points into named
groups, by what is known before ranking.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdsr_tf.evaluation import rank_metrics
from kdsr_tf.evaluation.significance import bootstrap_means, percentile_interval, user_sums
from kdsr_tf.schema import PAD

_HISTORY_LENGTHS = (1, 5, 10, 20, 50)
_DIVERSITY_LISTS = 10_000


class Slice(NamedTuple):
    """One way to divide test points: names of the groups, and the group of each point, int8."""

    groups: tuple[str, ...]
    codes: np.ndarray


def slice_points(
    targets: np.ndarray,
    positions: np.ndarray,
    train_counts: np.ndarray,
    presence: Mapping[str, np.ndarray],
    head_share: float,
    cold_below: int,
) -> dict[str, Slice]:
    """Divide test points by their target and by their history.

    Args:
        targets: Target items `(points,)`.
        positions: Items before each target `(points,)`.
        train_counts: Occurrences of each item among train interactions `(items + 1,)`.
        presence: Per modality, whether an item has it `(items + 1,)`.
        head_share: Share of the items that are the head; see `head_items`.
        cold_below: An item with fewer train interactions is cold.

    Returns:
        `target_popularity` (head, tail), `target_training` (warm, cold),
        `target_<modality>` (present, absent) per modality, and `history_length`.
    """

    def divide(first: str, second: str, is_first: np.ndarray) -> Slice:
        return Slice((first, second), np.where(is_first[targets], 0, 1).astype(np.int8))

    lengths = [f"{a}-{b - 1}" for a, b in itertools.pairwise(_HISTORY_LENGTHS)]
    return {
        "target_popularity": divide("head", "tail", head_items(train_counts, head_share)),
        "target_training": divide("warm", "cold", train_counts >= cold_below),
        **{f"target_{m}": divide("present", "absent", has) for m, has in presence.items()},
        "history_length": Slice(
            (*lengths, f"{_HISTORY_LENGTHS[-1]}+"),
            (np.searchsorted(_HISTORY_LENGTHS, positions, side="right") - 1).astype(np.int8),
        ),
    }


def head_items(train_counts: np.ndarray, share: float) -> np.ndarray:
    """The items most often seen in training: the first `share` of the catalogue.

    Items as frequent as the last of them belong to the head too, so that membership
    never depends on the numbering of items. An item never seen in training does not.

    Args:
        train_counts: Occurrences among train interactions `(items + 1,)`; entry 0 is padding.
        share: Between 0 and 1.

    Example:
        >>> head_items(np.array([0, 5, 9, 5, 1, 0]), 0.4).tolist()
        [False, True, True, True, False, False]
    """
    counts = train_counts[1:]
    number = int(np.ceil(share * len(counts)))
    if not number:
        return np.zeros(len(train_counts), bool)
    least = max(1, int(np.partition(counts, len(counts) - number)[len(counts) - number]))
    return np.concatenate([[False], counts >= least])


@dataclasses.dataclass(kw_only=True)
class TestPoints:
    """Test points in the order they were read.

    Positions are indices of the targets in the users' sequences, window starts those of the first
    items of the histories.
    """

    __test__ = False

    user_ids: list[str]
    positions: np.ndarray
    window_starts: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(kw_only=True)
class Rankings:
    """What ranking found, per test point: ranks of the target, 1 is best, and by train frequency.

    `lists` are the best items `(points, k)`, k the largest cutoff; `PAD` where no item is left.
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

    `spaces` has, per modality, vectors and presence of the items.

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
                sums.append(user_sums(columns[rows], users[rows], len(known)))
                counts.append(np.bincount(users[rows], minlength=len(known)))
    drawn = bootstrap_means(np.concatenate(sums, axis=1), np.stack(counts, axis=1), seed)
    lows, highs = (ends.reshape(len(groups), len(names)) for ends in percentile_interval(drawn))
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
