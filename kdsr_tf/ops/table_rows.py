"""Rows of tables: read alone, and with their gradients added up."""

from __future__ import annotations

from typing import Any

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


def is_rows(gradient: Any) -> bool:
    """Whether a gradient is that of some rows of its variable, a `tf.IndexedSlices`."""
    return hasattr(gradient, "dense_shape") and hasattr(gradient, "indices")


def with_values(gradient: Any, values: Tensor) -> Any:
    """A gradient of the same rows, or of all, with other values.

    Args:
        gradient: Dense, or a `tf.IndexedSlices`.
        values: In place of `gradient`, or of its `values`.
    """
    if not is_rows(gradient):
        return values
    return type(gradient)(values, gradient.indices, gradient.dense_shape)


def values_of(gradient: Any) -> Tensor:
    """All numbers of a gradient that may differ from 0."""
    return gradient.values if is_rows(gradient) else gradient


def summed_rows(gradient: Any) -> Any:
    """The same gradient with every row once.

    Args:
        gradient: A `tf.IndexedSlices` whose rows may repeat; a dense one stays.

    Returns:
        A `tf.IndexedSlices` of distinct rows; its norm is that of the dense gradient.
    """
    if not is_rows(gradient):
        return gradient
    import tensorflow as tf

    rows, places = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(rows)[0])
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)
