"""Item vectors inside a SavedModel, in a chosen precision."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_ROWS_PER_CHUNK = 65_536


class VectorTable(tf.Module):
    """Vectors of items, and their dot products with queries.

    `float16` halves the table and `int8`, with one scale per row, quarters it. They are
    turned into float32 chunk by chunk while a query is answered, so products are those of
    the rounded vectors in full precision.

    Args:
        vectors: float32 `(N, dim)`, or a variable that already holds them.
        dtype: `float32`, `float16` or `int8`.
    """

    def __init__(self, vectors: np.ndarray | tf.Variable, dtype: str = "float32") -> None:
        super().__init__()
        self.scale = None
        if isinstance(vectors, tf.Variable):
            self.values = vectors
            return
        if dtype == "int8":
            largest = np.abs(vectors).max(axis=1, initial=0.0)
            scale = np.where(largest > 0, largest, 1.0).astype(np.float32) / 127
            self.scale = tf.Variable(scale, trainable=False, name="scale")
            vectors = np.rint(vectors / scale[:, np.newaxis])
        self.values = tf.Variable(vectors.astype(dtype), trainable=False, name="vectors")

    @property
    def num_rows(self) -> int:
        """Number of vectors N."""
        return self.values.shape[0]

    def rows(self, numbers: tf.Tensor) -> tf.Tensor:
        """Vectors float32 `(..., dim)` by row number, int32 `(...)` in `[0, N)`."""
        rows = tf.cast(tf.gather(self.values, numbers), tf.float32)
        return rows if self.scale is None else rows * tf.gather(self.scale, numbers)[..., None]

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Dot products float32 `(batch, N)` of queries `(batch, dim)` with every vector."""
        if self.values.dtype == tf.float32:
            return tf.matmul(queries, self.values, transpose_b=True)
        scores = [
            tf.matmul(
                queries,
                tf.cast(self.values[start : start + _ROWS_PER_CHUNK], tf.float32),
                transpose_b=True,
            )
            for start in range(0, self.num_rows, _ROWS_PER_CHUNK)
        ]
        joined = tf.concat(scores, axis=1)
        return joined if self.scale is None else joined * self.scale
