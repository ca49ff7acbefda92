"""Ranking metrics over users, in NumPy.

A test point has one relevant item, so everything about accuracy follows from the rank of the
target: 1 is best. `ranks` are `(points,)`, cutoffs `k` at least 1, results float64 `(points,)`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kdsr_tf.schema import DISCOUNTED_GAIN, HIT_RATE, PAD, RECIPROCAL_RANK

NOT_RANKED = int(np.iinfo(np.int32).max)
"""Rank of a target that no list may hold: it was taken out, or its score is not a number."""

_LISTS_AT_ONCE = 512


def hit_rate(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first `k`, else 0."""
    return (ranks <= k).astype(np.float64)


def reciprocal_rank(ranks: np.ndarray, k: int) -> np.ndarray:
    """1/rank where the target is among the first `k`, else 0."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def discounted_gain(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k with one relevant item: 1/log2(1 + rank) within `k`, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


ACCURACY: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    HIT_RATE: hit_rate,
    RECIPROCAL_RANK: reciprocal_rank,
    DISCOUNTED_GAIN: discounted_gain,
}
"""Accuracy per test point, by the first part of a metric's name (`hr_20`)."""


def metric_name(name: str) -> str:
    """A metric's name as people write it: `HR@20`, `text diversity@5`."""
    kind, _, k = name.rpartition("_")
    return f"{kind.upper() if kind in ACCURACY else kind.replace('_', ' ')}@{k}"


def pessimistic_ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each target, the worst possible one among equal scores.

    A model that scores everything alike ranks every target last. Another item whose
    score is not a number counts as a tie, so it never helps either.

    Args:
        scores: Scores of all candidates `(points, candidates)`; -inf removes one.
        targets: Column of each target `(points,)`.

    Returns:
        int64 `(points,)`, 1 is best; `NOT_RANKED` where the target's own score is -inf or
        not a number, so that no cutoff counts it.

    Example:
        >>> pessimistic_ranks(np.array([[-np.inf, 3.0, 3.0, 1.0]]), np.array([1])).tolist()
        [2]
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
    worse = [np.count_nonzero(row < score) for row, score in zip(scores, own, strict=True)]
    ranks = scores.shape[1] - np.array(worse, np.int64)
    return np.where(own > -np.inf, ranks, NOT_RANKED)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the `k` best candidates, best first, int64 `(points, k)`.

    A candidate whose score is -inf or not a number is never listed; `PAD`, the column of padding,
    stands where no candidate is left. Among equal scores at the end of the list, which ones are
    shown is arbitrary but the same in every run.

    Example:
        >>> top_k(np.array([[-np.inf, 3.0, -np.inf, 5.0]]), 3).tolist()
        [[3, 1, 0]]
    """
    # Negated, because a partition puts what is not a number last.
    falling = -scores
    shown = min(k, scores.shape[1])
    best = np.sort(np.argpartition(falling, shown - 1, axis=1)[:, :shown], axis=1)
    found = np.take_along_axis(falling, best, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    best = np.where(found < np.inf, best, PAD)
    lists = np.full((len(scores), k), PAD, np.int64)
    lists[:, :shown] = np.take_along_axis(best, order, axis=1)
    return lists


def mean_diversity(lists: np.ndarray, vectors: np.ndarray, present: np.ndarray) -> float | None:
    """Intra-list diversity: 1 minus the mean cosine over the pairs of a list, then the mean.

    Pairs with an item that lacks the modality are left out. Lists of look-alikes have diversity 0.

    Args:
        lists: Items `(points, k)`; `PAD` is none.
        vectors: Vector of each item `(items + 1, size)`.
        present: Whether an item has the modality `(items + 1,)`.

    Returns:
        The mean over lists with a pair, None if there is no such list.

    Example:
        >>> vectors, present = np.array([[0, 0], [1, 0], [0, 1], [1, 0.0]]), np.arange(4) > 0
        >>> mean_diversity(np.array([[1, 2], [1, 3]]), vectors, present)
        0.5
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.where(present[:, None] & (norms > 0), vectors / np.maximum(norms, 1e-30), 0)
    total, number = 0.0, 0
    for start in range(0, len(lists), _LISTS_AT_ONCE):
        chunk = lists[start : start + _LISTS_AT_ONCE]
        listed, count = units[chunk], present[chunk].sum(axis=1)
        # Twice the sum of u·v over pairs is |Σu|² − Σ|u|²: no k × k matrix per list.
        dots = np.square(listed.sum(axis=1)).sum(axis=-1) - np.square(listed).sum(axis=(1, 2))
        paired = count > 1
        total += float(np.sum(1 - dots[paired] / (count * (count - 1))[paired]))
        number += int(paired.sum())
    return total / number if number else None
