"""Which rows form a batch: rows of like length, each batch with about as many targets.

A row is what a batch holds: a window, or a prefix of one. Rows are sorted by the length that
they are padded to and cut into batches, those of short rows with more rows than those of long
ones. So there is little padding, every target has about the same weight over an epoch, and an
epoch has about as many steps as it would have with `batch_size` random rows a batch. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Histogram(NamedTuple):
    """The rows of a block by padded length, `(lengths,)` each.

    Attributes:
        rows: Number of rows.
        items: Items of these rows together.
        targets: Targets of these rows together.
    """

    rows: np.ndarray
    items: np.ndarray
    targets: np.ndarray


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
