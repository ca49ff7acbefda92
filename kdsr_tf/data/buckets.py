"""Lengths that windows are padded to, and which rows form a batch: like length, as many targets.

A row is what a batch holds: a window, or a prefix of one. Rows are sorted by the length that
they are padded to and cut into batches, those of short rows with more rows than those of long
ones. So there is little padding, every target has about the same weight over an epoch, and an
epoch has about as many steps as it would have with `batch_size` random rows a batch. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RATIO = 1.4
"""Bound on the padding of a window where lengths are few: a length over the one before it."""


def exact_lengths(max_length: int) -> list[int]:
    """Every length from 2 to the longest window: no padding, for steps that take any shape.

    Windows of one item are padded to two: pairs and softmaxes of one item are special cases.
    """
    return list(range(2, max_length + 1)) or [1]


def few_lengths(max_length: int) -> list[int]:
    """Lengths whose ratio is about `RATIO`: little padding, for steps compiled once per shape.

    Example:
        >>> few_lengths(50)
        [2, 3, 5, 8, 12, 17, 25, 35, 50]
    """
    lengths = [max_length]
    while lengths[0] > 2:
        lengths.insert(0, max(2, min(int(lengths[0] / RATIO), lengths[0] - 1)))
    return lengths


class Histogram(NamedTuple):
    """The rows of a block by padded length, `(lengths,)` each."""

    rows: np.ndarray  # Number of rows
    items: np.ndarray  # Items of these rows together
    targets: np.ndarray  # Targets of these rows together


def histogram(sizes: np.ndarray, targets: np.ndarray, lengths: Sequence[int]) -> Histogram:
    """Count rows by padded length.

    Args:
        sizes: Items of each row, in `1..lengths[-1]`.
        targets: Targets of each row.
        lengths: Padded lengths, ascending.
    """
    bucket = np.searchsorted(lengths, sizes)
    return Histogram(*(np.bincount(bucket, of, len(lengths)) for of in (None, sizes, targets)))


class Buckets:
    """Batches of the rows of some blocks.

    Args:
        blocks: Histogram of each block; a batch has rows of one block.
        lengths: Padded lengths, ascending.
        batch_size: Rows of a batch on average, > 0.

    Attributes:
        capacities: Most rows of a batch whose longest row is padded to each length,
            `(lengths,)`. Never above `batch_size` for lengths above the mean, so that memory
            stays bounded where long rows have few targets.
        totals: Rows and targets of all blocks, int32 `(2,)`.
        edges: Per block, where its batches begin among its sorted rows, and where the last
            one ends.

    Example:
        >>> sizes = np.array([2, 2, 2, 2, 8])
        >>> buckets = Buckets([histogram(sizes, sizes, [2, 8])], [2, 8], batch_size=2)
        >>> buckets.capacities.tolist(), buckets.edges[0].tolist(), buckets.num_batches
        ([3, 1], [0, 3, 4, 5], 3)
    """

    def __init__(
        self, blocks: Sequence[Histogram], lengths: Sequence[int], batch_size: int
    ) -> None:
        rows, items, targets = np.zeros((3, len(lengths))) + np.sum(blocks, axis=0)
        count = max(rows.sum(), 1)
        by_targets = (targets.sum() / count) * rows / np.maximum(targets, 1)
        by_items = np.maximum(items.sum() / count / np.asarray(lengths), 1)
        capacities = np.round(batch_size * np.minimum(by_targets, by_items))
        self.capacities = np.maximum(capacities, 1).astype(int)
        self.totals = np.array([rows.sum(), targets.sum()], np.int32)
        self.edges = [_edges(block.rows, self.capacities) for block in blocks]

    @property
    def num_batches(self) -> int:
        """Batches of all blocks."""
        return sum(len(edges) - 1 for edges in self.edges)


def _edges(rows: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Where batches begin among sorted rows; each is as large as its longest row allows."""
    allowed = np.repeat(capacities, rows.astype(int))
    # Row k fits into a batch that starts at s if k - s < allowed[k].
    latest = np.maximum.accumulate(np.arange(len(allowed)) - allowed)
    edges = [0]
    while edges[-1] < len(allowed):
        edges.append(int(np.searchsorted(latest, edges[-1])))
    return np.array(edges)
