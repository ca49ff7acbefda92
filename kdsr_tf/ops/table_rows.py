"""Rows of tables."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.types import Tensor


def take_rows(table: keras.Variable, items: Tensor) -> Tensor:
    """Rows of a table, without reading the rest of it.

    `ops.take` reads the variable as a whole first. TensorFlow does not copy it for that,
    unless rows of it are written one by one (`train.lazy_tables`): then every such read is a
    copy. Under mixed precision the whole is cast anyway.

    Args:
        table: Floats `(rows, dim)`.
        items: Ints of any shape, in `0..rows - 1`.

    Returns:
        Floats, the shape of `items` and `dim`.
    """
    value = table.value
    if hasattr(value, "sparse_read"):
        return value.sparse_read(ops.cast(items, "int32"))
    return ops.take(value, items, axis=0)
