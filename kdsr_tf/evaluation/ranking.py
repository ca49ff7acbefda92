"""Ranking the whole catalogue for histories, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from kdsr_tf.evaluation.metrics import top_k
from kdsr_tf.schema import PAD

_SCORES_BYTES = 64 * 2**20


class Ranker:
    """A student ready to score every item.

    Args:
        student: A `kdsr_tf.models.student.Student`.

    Example:
        >>> ranker = Ranker(student)  # doctest: +SKIP
        >>> ranker.scores(np.array([[3, 1, 0]])).shape  # doctest: +SKIP
        (1, 601)
    """

    def __init__(self, student) -> None:
        self.max_length: int = student.max_length
        self._items = np.ascontiguousarray(np.asarray(student.output_table()).T)
        spec = tf.TensorSpec([None, None], tf.int32)
        self._encode = tf.function(student.user_vectors, input_signature=[spec])

    @property
    def num_items(self) -> int:
        """Items without padding."""
        return self._items.shape[1] - 1

    def rows_at_once(self, most: int) -> int:
        """Histories whose scores fit the memory bound, at most `most`."""
        return max(1, min(most, _SCORES_BYTES // (4 * self._items.shape[1])))

    def scores(self, items: np.ndarray) -> np.ndarray:
        """Score of every item for every history.

        Args:
            items: Right-padded item indices `(batch, length)`.

        Returns:
            float32 `(batch, items + 1)`; column 0 (padding) is -inf.
        """
        vectors = self._encode(np.asarray(items, np.int32)).numpy()
        scores = vectors.astype(np.float32) @ self._items
        scores[:, PAD] = -np.inf
        return scores

    def recommend(self, histories: Sequence[np.ndarray], k: int) -> np.ndarray:
        """The `k` best unseen items of each history, best first.

        Args:
            histories: Item indices, oldest first, of any length; the last
                `max_length` are encoded, all of them are excluded.
            k: At least 1.

        Returns:
            Item indices `(histories, k)`; `PAD` once the catalogue is exhausted.
        """
        answers = np.full((len(histories), k), PAD, np.int64)
        for start, rows in _chunks(histories, self.rows_at_once(len(histories))):
            scores = self.scores(pad([row[-self.max_length :] for row in rows]))
            exclude(scores, rows)
            best = top_k(scores, k)
            found = np.take_along_axis(scores, best, axis=1) > -np.inf
            answers[start : start + len(rows), : best.shape[1]] = np.where(found, best, PAD)
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


def _chunks(rows: Sequence, size: int) -> Iterator[tuple[int, Sequence]]:
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]
