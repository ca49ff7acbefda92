"""Ranking the whole catalogue for histories, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from kdsr_tf.evaluation.rank_metrics import NOT_RANKED, top_k
from kdsr_tf.methods.folding import fold
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.schema import PAD

_SCORES_BYTES = 64 * 2**20


class Ranker:
    """A student ready to score every item.

    Args:
        student: The student.
        batch_size: Windows of `max_length` encoded at once (more where they are
            shorter), and most histories scored at once; > 0.
    """

    def __init__(self, student: Recommender, batch_size: int = 512) -> None:
        self.max_length: int = student.max_length
        self._table = tf.convert_to_tensor(student.item_vectors())
        self.rows_at_once = max(1, min(batch_size, _SCORES_BYTES // (4 * self._table.shape[0])))
        self._positions_at_once = batch_size * student.max_length
        self._shares_passes: bool = student.backbone.causal
        ints = tf.TensorSpec([None], tf.int32)
        self._encode = tf.function(
            fold(student).user_vectors_at,
            input_signature=[tf.TensorSpec([None, None], tf.int32), ints, ints],
            autograph=False,
        )

    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """P of histories, float32 `(histories, dim)`; zeros for an empty history.

        A causal backbone gives, at every position, what it gives for the history that
        ends there: histories that begin the one after them share its pass, such as
        the test points of a user. Windows of like length share a batch.

        Args:
            histories: Item indices, oldest first, at most `max_length` each.
        """
        lengths = np.array([len(history) for history in histories])
        passes = shared_passes(histories) if self._shares_passes else np.arange(len(histories))
        # Longest windows first, each beside all that is read off it.
        order = np.lexsort((passes, -lengths[passes]))[: np.count_nonzero(lengths)]
        passes = passes[order]
        number = np.cumsum(np.diff(passes, prepend=-1) != 0)
        vectors = np.zeros((len(histories), self._table.shape[1]), np.float32)
        start = 0
        while start < len(order):
            most = max(1, self._positions_at_once // lengths[passes[start]])
            stop = np.searchsorted(number, number[start] + most)
            windows, rows = np.unique(passes[start:stop], return_inverse=True)
            read = order[start:stop]
            items = pad([histories[window] for window in windows])
            found = self._encode(items, rows.astype(np.int32), (lengths[read] - 1).astype(np.int32))
            vectors[read] = found.numpy()
            start = stop
        return vectors

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Scores `(histories, items + 1)` of all items for P; column 0 (padding) is -inf."""
        scores = tf.matmul(vectors, self._table, transpose_b=True).numpy()
        scores[:, PAD] = -np.inf
        return scores

    def recommend(self, histories: Sequence[np.ndarray], k: int) -> np.ndarray:
        """The `k` best unseen items of each history, best first `(histories, k)`.

        `PAD` once the catalogue is exhausted. Histories may have any length: the last `max_length`
        items are encoded, all of them are excluded.
        """
        answers = np.full((len(histories), k), PAD, np.int64)
        vectors = self.vectors([row[-self.max_length :] for row in histories])
        for part in parts(len(histories), self.rows_at_once):
            scores = self.scores(vectors[part])
            exclude(scores, histories[part])
            answers[part] = top_k(scores, k)
        return answers


def pad(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of items as one right-padded int32 array `(rows, longest)`."""
    items = np.full((len(rows), max(1, max(map(len, rows)))), PAD, np.int32)
    for number, row in enumerate(rows):
        items[number, : len(row)] = row
    return items


def exclude(scores: np.ndarray, rows: Sequence[np.ndarray]) -> None:
    """Set the scores of each row's items to -inf, in place."""
    for number, row in enumerate(rows):
        scores[number, row] = -np.inf


def parts(number: int, size: int) -> Iterator[slice]:
    """Slices that cover `number` rows, at most `size` each."""
    for start in range(0, number, size):
        yield slice(start, start + size)


def popularity_ranks(
    counts: np.ndarray, targets: np.ndarray, seen: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Ranks of targets where items are ranked by a count, ties against the target.

    Args:
        counts: A count per item `(items + 1,)`; entry 0 is padding.
        targets: Items `(points,)`.
        seen: Items that each point leaves out; a target among them is `NOT_RANKED`.

    Example:
        >>> popularity_ranks(np.array([0, 7, 9, 7]), np.array([2, 1])).tolist()
        [1, 3]
    """
    num_items = len(counts) - 1
    ranks = num_items - np.searchsorted(np.sort(counts[1:]), counts[targets], side="left")
    for point, items in enumerate(seen or ()):
        left_out, target = np.unique(items), targets[point]
        if target in left_out:
            ranks[point] = NOT_RANKED
        else:
            ranks[point] -= np.count_nonzero(counts[left_out] >= counts[target])
    return ranks


def shared_passes(histories: Sequence[np.ndarray]) -> np.ndarray:
    """Per history the number of the one whose window a causal backbone encodes for it.

    Its own, or that of one right after it that it begins.

    Example:
        >>> shared_passes([[3], [3, 5], [3, 5, 8], [5, 8]]).tolist()
        [2, 2, 2, 3]
    """
    passes = np.arange(len(histories))
    for number in range(len(histories) - 2, -1, -1):
        history, longer = histories[number], histories[number + 1]
        if len(history) and np.array_equal(history, longer[: len(history)]):
            passes[number] = passes[number + 1]
    return passes
