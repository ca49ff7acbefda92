"""Summaries of every prefix of a sequence in one pass, and weighted means."""

from __future__ import annotations

from keras import ops

from kdsr_tf.types import Tensor


def prefix_mean(states: Tensor) -> Tensor:
    """Mean of the states `(batch, length, dim)` up to and including each position.

    Example:
        >>> import numpy as np
        >>> means = prefix_mean(np.array([[[2.0], [4.0], [9.0]]], "float32"))
        >>> [float(mean) for mean in means[0, :, 0]]
        [2.0, 3.0, 5.0]
    """
    before = _steps_before(states)
    taken = ops.cast(before >= 0, "float32")
    weights = taken / ops.sum(taken, axis=1, keepdims=True)
    return ops.matmul(ops.cast(weights, states.dtype), states)


def trailing_sum(states: Tensor, size: int) -> Tensor:
    """Sum of the last `size` states up to and including each position, fewer at the start.

    Args:
        states: Floats `(batch, length, dim)`, as the result.
        size: States summed, > 0.

    Example:
        >>> import numpy as np
        >>> sums = trailing_sum(np.array([[[2.0], [4.0], [9.0]]], "float32"), 2)
        >>> [float(total) for total in sums[0, :, 0]]
        [2.0, 6.0, 13.0]
    """
    before = _steps_before(states)
    taken = ops.logical_and(before >= 0, before < size)
    return ops.matmul(ops.cast(taken, states.dtype), states)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the last axis; 0 where all weights are 0.

    Values of weight 0 reach neither the mean nor, if finite, its gradient. Weights are >= 0.

    Example:
        >>> import numpy as np
        >>> float(weighted_mean(np.array([1.0, 3.0, 9.0]), np.array([1.0, 1.0, 0.0])))
        2.0
    """
    weights = ops.cast(weights, values.dtype)
    total = ops.sum(ops.where(weights > 0, weights * values, ops.zeros_like(values)), axis=-1)
    weight = ops.sum(weights, axis=-1)
    return total / ops.where(weight > 0, weight, ops.ones_like(weight))


def _steps_before(states: Tensor) -> Tensor:
    """How far position j is before position i, ints `(length, length)`.

    Sums over positions are products with a matrix made of it, whose gradients are
    products too: on a CPU a fraction of the time of running sums and slices.
    """
    place = ops.arange(ops.shape(states)[1], dtype="int32")
    return place[:, None] - place[None, :]
