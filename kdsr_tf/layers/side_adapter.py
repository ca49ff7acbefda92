"""The block that a side network is made of."""

from __future__ import annotations

import functools

import keras

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SideAdapter(ConfiguredLayer):
    """x + U f(V x + b) + c, a narrow network beside a frozen one (SANB).

    V and U start from N(0, 0.01²) and the biases at 0, so that a block is about the identity
    at first. As in the authors' code there is neither a norm nor dropout in it.

    Args:
        hidden: Units of f, > 0.
        activation: f, a name that Keras knows.
        seed: Seed of V and U.

    Call arguments:
        states: Floats `(batch, width)`.

    Returns:
        Floats of the same shape.

    Example:
        >>> import numpy as np
        >>> tuple(SideAdapter(hidden=2)(np.ones((3, 4), "float32")).shape)
        (3, 4)

    Reference:
        - [IISAN, arXiv 2404.02059](https://arxiv.org/abs/2404.02059).
    """

    def __init__(self, hidden: int = 64, activation: str = "relu", seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden
        self.activation = activation
        self.seed = seed

    def build(self, states_shape) -> None:
        width = states_shape[-1]
        small = functools.partial(keras.initializers.RandomNormal, stddev=0.01)
        self._down = seeded_dense(self, "down", self.hidden, small, activation=self.activation)
        self._up = seeded_dense(self, "up", width, small)
        self._down.build((None, width))
        self._up.build((None, self.hidden))
        self.built = True

    def call(self, states: Tensor) -> Tensor:
        return states + self._up(self._down(states))

    def compute_output_shape(self, states_shape) -> tuple:
        return states_shape
