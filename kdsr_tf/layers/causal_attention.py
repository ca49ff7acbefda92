"""Self-attention that sees no future item."""

from __future__ import annotations

import math

import keras
from keras import ops

from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class CausalAttention(keras.layers.Layer):
    """Multi-head self-attention from each position to itself and those before it.

    Unlike `keras.layers.MultiHeadAttention` its kernels take one seed and start
    different, and queries, keys and values come from one matrix product. With
    right-padding a real position never attends to padding, so no further mask is
    needed; outputs at padding mean nothing.

    Args:
        dim: Size of inputs and outputs; a multiple of `num_heads`.
        num_heads: Attention heads, > 0.
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Of kernels and dropout.

    Call arguments:
        states: Floats `(batch, length, dim)`.
        training: Whether to drop.

    Returns:
        Floats `(batch, length, dim)`.

    Raises:
        ValueError: if `num_heads` does not divide `dim`.

    Example:
        >>> import numpy as np
        >>> tuple(CausalAttention(dim=4, num_heads=2)(np.ones((1, 3, 4), "float32")).shape)
        (1, 3, 4)

    Reference:
        - [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        if num_heads < 1 or dim % num_heads:
            raise ValueError(
                f"`num_heads` must divide `dim`. Received: num_heads={num_heads}, dim={dim}."
            )
        self.dim = dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        # Three kernels side by side: the bound is that of one square kernel.
        bound = math.sqrt(3.0 / dim)
        self._project = keras.layers.Dense(
            3 * dim,
            kernel_initializer=keras.initializers.RandomUniform(
                -bound, bound, seed=derive_seed(seed, "project")
            ),
            dtype=self.dtype_policy,
            name="project",
        )
        self._join = keras.layers.Dense(
            dim,
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, "join")),
            dtype=self.dtype_policy,
            name="join",
        )
        self._drop = keras.layers.Dropout(
            dropout, seed=derive_seed(seed, "dropout"), dtype=self.dtype_policy
        )

    def build(self, input_shape=None) -> None:
        self._project.build((None, None, self.dim))
        self._join.build((None, None, self.dim))
        self.built = True

    def call(self, states: Tensor, training: bool | None = None) -> Tensor:
        length = ops.shape(states)[1]
        size = self.dim // self.num_heads
        projected = ops.reshape(self._project(states), (-1, length, 3, self.num_heads, size))
        query, key, value = ops.unstack(ops.transpose(projected, (2, 0, 3, 1, 4)), 3)
        scores = ops.matmul(query * size**-0.5, ops.transpose(key, (0, 1, 3, 2)))
        position = ops.arange(length, dtype="int32")
        future = position[None, :] > position[:, None]
        # -3e4 is finite in float16 and leaves no weight after the softmax.
        scores = ops.where(future, ops.cast(-3e4, scores.dtype), scores)
        weights = self._drop(ops.softmax(scores), training=training)
        heads = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self._join(ops.reshape(heads, (-1, length, self.dim)))

    def compute_output_shape(self, input_shape) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "seed": self.seed,
        }
