"""Self-attention that sees no future item."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_dropout
from kdsr_tf.ops.masking import softmax
from kdsr_tf.rules import check_heads
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class CausalAttention(ConfiguredLayer):
    """Multi-head self-attention from each position to itself and those before it.

    Unlike `keras.layers.MultiHeadAttention` its kernels take one seed and start
    different, and queries, keys and values come from one matrix product. With
    right-padding a real position never attends to padding, so no further mask is
    needed; outputs at padding mean nothing.

    With sources the attention is decoupled: scores are Q Kᵀ + Σ_s Q_s K_sᵀ, every
    source with queries and keys of its own, while values come from the states alone.
    Sources steer where attention looks and do not mix into what it returns.

    Args:
        dim: Size of inputs and outputs; a multiple of `num_heads`.
        num_heads: Attention heads, > 0.
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Seed of kernels and dropout.
        num_sources: Inputs beside the states, >= 0.

    Call arguments:
        states: Floats `(batch, length, dim)`.
        sources: `num_sources` floats `(batch or 1, length, dim)`.
        training: Whether to drop.

    Returns:
        Floats of the shape of the states.

    Raises:
        ValueError: if `num_heads` does not divide `dim`.

    Example:
        >>> import numpy as np
        >>> tuple(CausalAttention(dim=4, num_heads=2)(np.ones((1, 3, 4), "float32")).shape)
        (1, 3, 4)

    Reference:
        - [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
        - [DIF-SR, arXiv 2204.11046](https://arxiv.org/abs/2204.11046), for sources.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        num_sources: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_heads(num_heads, dim)
        self.dim = dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        self.num_sources = num_sources
        self._make_projections()
        self._join = self._dense("join", 1)
        self._drop = seeded_dropout(self)

    def build(self, states_shape=None, sources_shape=None) -> None:
        for layer in (self._project, self._join, *self._compare):
            layer.build((None, None, self.dim))
        self.built = True

    def call(
        self,
        states: Tensor,
        sources: Sequence[Tensor] = (),
        training: bool | None = None,
    ) -> Tensor:
        projected = self._projected(states, sources)
        return self._join(self._attend(*projected, training=training))

    def _make_projections(self) -> None:
        self._project = self._dense("project", 3)
        self._compare = [self._dense(f"compare_{k}", 2) for k in range(self.num_sources)]

    def _dense(self, name: str, parts: int) -> keras.layers.Dense:
        # Kernels side by side: the bound of each is that of one square kernel.
        bound = math.sqrt(3.0 / self.dim)
        uniform = functools.partial(keras.initializers.RandomUniform, -bound, bound)
        return seeded_dense(self, name, parts * self.dim, uniform)

    def _projected(self, states: Tensor, sources: Sequence[Tensor]) -> list[Tensor]:
        """What attention compares and collects, side by side; position by position."""
        compared = zip(self._compare, sources, strict=True)
        return [self._project(states), *(projection(source) for projection, source in compared)]

    def _attend(self, projected: Tensor, *sources: Tensor, training: bool | None) -> Tensor:
        """What each position collects from its window."""
        query, key, value = self._heads(projected, 3)
        scores = self._products(query, key)
        for source in sources:
            scores = scores + self._products(*self._heads(source, 2))
        return self._collect(scores, value, training)

    def _heads(self, projected: Tensor, parts: int) -> list[Tensor]:
        """Each part as `(heads, batch, length, size)`."""
        # Head first: a CPU copies slices faster than it transposes.
        heads = self.num_heads
        slices = ops.split(projected, parts * heads, axis=-1)
        return [ops.stack(slices[heads * part : heads * (part + 1)]) for part in range(parts)]

    def _products(self, query: Tensor, key: Tensor) -> Tensor:
        size = self.dim // self.num_heads
        return ops.matmul(query * size**-0.5, ops.transpose(key, (0, 1, 3, 2)))

    def _collect(self, scores: Tensor, value: Tensor, training: bool | None) -> Tensor:
        position = ops.arange(ops.shape(value)[2], dtype="int32")
        future = position[None, :] > position[:, None]
        # -3e4 is finite in float16 and leaves no weight after the softmax.
        scores = scores + ops.cast(future, scores.dtype) * -3e4
        weights = self._drop(softmax(scores), training=training)
        return ops.concatenate(ops.unstack(ops.matmul(weights, value), self.num_heads), axis=-1)
