"""Dense children of layers, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.types import Tensor

Initializer = Callable[..., keras.initializers.Initializer]


# The name is part of the paths in saved files: that of the class of Keras.
class Dense(keras.layers.Dense):
    """A dense layer that multiplies all rows at once.

    On TensorFlow, that of Keras calls `tensordot`, which makes two dozen operations for the
    shapes of one product.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if len(inputs.shape) == 2 or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training)
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training)
        return ops.reshape(rows, (*ops.shape(inputs)[:-1], self.units))


def seeded_dense(
    layer: keras.layers.Layer,
    name: str,
    units: int,
    initializer: Initializer = keras.initializers.GlorotUniform,
    **arguments: Any,
) -> keras.layers.Dense:
    """A dense layer for another layer, of its dtype.

    Kernels that are computed side by side in one product need an initializer whose bound
    does not depend on the number of units, such as `LecunUniform`.

    Args:
        layer: Whose child it is; its `seed` and the name make the kernel's seed.
        name: Name of the child.
        units: Size of the result, > 0.
        initializer: Initializer of the kernel; called with `seed`.
        **arguments: Others of `keras.layers.Dense`.

    Returns:
        The layer, not yet built.
    """
    return Dense(
        units,
        kernel_initializer=initializer(seed=derive_seed(layer.seed, name)),
        dtype=layer.dtype_policy,
        name=name,
        **arguments,
    )
