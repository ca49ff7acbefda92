"""Dropout with fewer random numbers."""

from __future__ import annotations

import math

import keras
from keras import ops

from kdsr_tf.ops.dropping import dropout_factors
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws one random number for two units.

    On a CPU it takes two thirds of the time. State, rate and scale are Keras's, with the rate
    rounded as `kdsr_tf.ops.dropping` says.

    Args:
        *args: Those of `keras.layers.Dropout`, without a shape of the noise.
        **kwargs: Likewise.

    Call arguments:
        inputs: Floats of any shape.
        training: Whether to drop.

    Returns:
        Floats of the shape of the inputs.

    Example:
        >>> import numpy as np
        >>> outputs = Dropout(0.5, seed=0)(np.ones((2, 3), "float32"), training=True)
        >>> set(np.asarray(outputs).ravel().tolist()) <= {0.0, 2.0}
        True
    """

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        if not training or not self.rate:
            return inputs
        shape = ops.shape(inputs)
        factors = self.factors(math.prod(shape))
        return inputs * ops.reshape(ops.cast(factors, inputs.dtype), shape)

    def factors(self, count: int | Tensor) -> Tensor:
        """What to multiply so many units with, float32 `(count,)`."""
        return dropout_factors(count, self.rate, self.seed_generator)
