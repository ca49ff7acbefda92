"""Sums over all replicas of a training step."""

from __future__ import annotations

import keras

from kdsr_tf.types import Tensor


def sum_over_replicas(value: Tensor) -> Tensor:
    """The sum of a scalar over the replicas of a `tf.distribute` strategy.

    Other backends, and steps outside a strategy, see the global batch already and
    get the value back.

    Args:
        value: A scalar of this replica.

    Returns:
        The scalar of the global batch.
    """
    if keras.backend.backend() != "tensorflow":
        return value
    # Keras has no backend-neutral collective, and this branch runs on TensorFlow only.
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
