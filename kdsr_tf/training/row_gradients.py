"""Gradients of some rows of a table."""

from __future__ import annotations

from typing import Any

from kdsr_tf.types import Tensor


def is_rows(gradient: Any) -> bool:
    """Whether a gradient is that of some rows of its variable, a `tf.IndexedSlices`."""
    return hasattr(gradient, "dense_shape") and hasattr(gradient, "indices")


def with_values(gradient: Any, values: Tensor) -> Any:
    """A gradient of the same rows, or a dense one, with other values."""
    if not is_rows(gradient):
        return values
    return type(gradient)(values, gradient.indices, gradient.dense_shape)


def values_of(gradient: Any) -> Tensor:
    """All numbers of a gradient that may differ from 0."""
    return gradient.values if is_rows(gradient) else gradient


def summed_rows(gradient: Any) -> Any:
    """The same `tf.IndexedSlices` with every row once; its norm is that of the dense gradient."""
    import tensorflow as tf

    rows, places = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(rows)[0])
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)
