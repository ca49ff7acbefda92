"""Modality retention: how much of a modality's geometry a tuned table still has."""

from __future__ import annotations

import numpy as np


def sample_pairs(present: np.ndarray, num_pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed random sample of pairs of different items that have a modality.

    Args:
        present: Bools `(num_items + 1,)`; row 0 is padding.
        num_pairs: Pairs to draw, with replacement, > 0.
        seed: Any int >= 0.

    Returns:
        Two int arrays `(num_pairs,)`; empty if fewer than two items are present.

    Example:
        >>> first, second = sample_pairs(np.array([0, 1, 0, 1], bool), 5, seed=0)
        >>> bool((first != second).all()), sorted(set(first) | set(second))
        (True, [np.int64(1), np.int64(3)])
    """
    items = np.flatnonzero(np.asarray(present, bool))
    items = items[items > 0]
    if len(items) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rng = np.random.default_rng([seed, len(items)])
    first = rng.integers(0, len(items), num_pairs)
    # A shift of 1..n-1 never lands on the first item again.
    second = (first + rng.integers(1, len(items), num_pairs)) % len(items)
    return items[first], items[second]


def modality_retention(
    table: np.ndarray, reference_vectors: np.ndarray, first: np.ndarray, second: np.ndarray
) -> float:
    """Pearson correlation between pairwise cosine similarities in two tables.

    1 says that the table orders pairs as the modality does, 0 that the modality is
    forgotten (paper, Fig. 1 right). It does not see scale or rotation. A zero
    vector has cosine 0.

    Args:
        table: The student's table, floats `(num_items + 1, d)`.
        reference_vectors: The modality's vectors, floats `(num_items + 1, m)`.
        first: Items of the pairs, ints `(pairs,)`; see `sample_pairs`.
        second: The other items of the pairs, likewise.

    Returns:
        A value in [-1, 1]; nan where it is not defined (no pairs, or all
        similarities equal in one of the tables).

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(9, 4))
        >>> first, second = sample_pairs(np.arange(9) > 0, 50, seed=0)
        >>> round(modality_retention(3 * vectors, vectors, first, second), 6)
        1.0

    Reference: [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Fig. 1.
    """
    ours = pair_cosines(np.asarray(table), first, second)
    return correlation(ours, pair_cosines(np.asarray(reference_vectors), first, second))


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Pearson's correlation of similarities `(pairs,)` of equal pairs; nan where not defined."""
    if len(ours) < 2 or not ours.std() or not theirs.std():
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def pair_cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines `(pairs,)` of the vectors of pairs; a zero vector has cosine 0.

    Args:
        vectors: Floats `(num_items + 1, d)`.
        first: Items of the pairs, ints `(pairs,)`; see `sample_pairs`.
        second: The other items of the pairs, likewise.

    Example:
        >>> pair_cosines(np.array([[0.0, 0.0], [2.0, 0.0], [3.0, 3.0]]), [1], [2]).round(3)
        array([0.707])
    """
    left, right = vectors[first].astype(np.float64), vectors[second].astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.einsum("pd,pd->p", left, right) / np.where(norms > 0, norms, 1.0)
