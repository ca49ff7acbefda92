"""Sums and rows over all replicas of a training step."""

from __future__ import annotations

from typing import TypeVar

import keras

from kdsr_tf.types import Tensor

T = TypeVar("T")


def sum_over_replicas(value: T) -> T:
    """The sum of a tensor, or of several, over the replicas of a `tf.distribute` strategy.

    Other backends, and steps outside a strategy, see the global batch already and
    get the value back.
    """
    context = _replica_context()
    return value if context is None else context.all_reduce("SUM", value)


def dense_sum_over_replicas(gradients: list) -> list:
    """The sums of gradients over the replicas of a `tf.distribute` strategy, each dense.

    Of a `tf.IndexedSlices` rows may repeat: dense, norms and squares see sums of rows. None, for a
    variable without a gradient, stays None.
    """
    if keras.backend.backend() != "tensorflow":
        return list(gradients)
    import tensorflow as tf

    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    summed = iter(sum_over_replicas(dense) if dense else ())
    return [None if g is None else next(summed) for g in gradients]


def gather_over_replicas(value: Tensor) -> Tensor:
    """The rows of all replicas of a `tf.distribute` strategy, in their order.

    Gradients flow back to the replica that a row comes from. Other backends, and steps
    outside a strategy, see the global batch already and get the value back.

    Args:
        value: Rows of this replica, `(batch, ...)`; all but `batch` is the same on every replica.
    """
    context = _replica_context()
    return value if context is None else context.all_gather(value, axis=0)


def _replica_context():
    """The context of one of several replicas, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    # Keras has no backend-neutral collective, and this line is reached on TensorFlow only.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context
