"""Rows of tables."""

from __future__ import annotations

import contextlib

import keras
from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.types import Tensor


def look_up(table: Tensor, rows: Tensor) -> Tensor:
    """Gathers rows of a table whose other gradients are dense; so is the gradient.

    TensorFlow keeps the gradient of a look-up as a list of rows. Added to a dense one, both
    become one long list, whose rows are summed one by one; here each is summed into zeros.

    Args:
        table: Floats `(size, dim)`.
        rows: Ints of any shape, in `0..size - 1`.

    Example:
        >>> import numpy as np
        >>> np.asarray(look_up(np.array([[1.0], [2.0]]), np.array([1, 0, 1]))).ravel().tolist()
        [2.0, 1.0, 2.0]
    """

    @ops.custom_gradient
    def taken(table: Tensor):
        def gradient(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            # In half precision, sums of many rows would stop growing.
            given = ops.cast(ops.reshape(upstream, (-1, table.shape[1])), "float32")
            total = ops.segment_sum(given, ops.reshape(rows, (-1,)), num_segments=table.shape[0])
            return ops.cast(total, upstream.dtype)

        return gather(table, rows), gradient

    # A variable becomes a tensor; `ops.copy` would be a real copy on JAX outside compiled steps.
    return taken(ops.reshape(table, table.shape))


def look_up_rows(table: keras.Variable, items: Tensor) -> Tensor:
    """Gathers rows of a table that takes gradients from such look-ups only.

    On TensorFlow the gradient is a `tf.IndexedSlices`, as that of `ops.take`, which reads the
    variable as a whole first. That costs nothing, unless rows of it are written one by one
    (`train.lazy_tables`): then every such read is a copy. Under mixed precision the whole is
    cast anyway.
    """
    value = table.value
    # Arrays lack it, and so do variables of several replicas, though they have the name.
    with contextlib.suppress(AttributeError):
        return value.sparse_read(ops.cast(items, "int32"))
    return gather(value, items)
