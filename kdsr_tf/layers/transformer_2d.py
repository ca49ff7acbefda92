"""Attention over a table of positions and sources, and the block of Trans2D."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_dropout, seeded_part
from kdsr_tf.ops.masking import masked_softmax
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Attention2D(ConfiguredLayer):
    """Every cell (position, source) attends to every cell, for three reasons.

    With a query q_ls and a key k_ls per cell, of kernels per source, the score of
    cell (l', s') for (l, s) is α_1 q_lsᵀ k_l's' + α_2 Σ_p q_psᵀ k_ps' +
    α_3 Σ_r q_lrᵀ k_l'r, over √size: how the cells, the sources and the positions
    agree. The α start at 1 and are learnt. Absent cells are no part of any sum.

    Args:
        dim: Size of inputs and outputs; a multiple of `num_heads`.
        num_sources: Sources per position, > 0.
        num_heads: Attention heads, > 0.
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Seed of kernels and dropout.

    Call arguments:
        states: List by source of floats `(batch, length, dim)`.
        present: List by source of bools `(batch, length)`: whether the cell exists.
        training: Whether to drop.

    Returns:
        List by source of floats `(batch, length, dim)`; they mean nothing where
        there is no cell.

    Example:
        >>> import numpy as np
        >>> states, present = np.ones((1, 3, 4), "float32"), np.ones((1, 3), bool)
        >>> layer = Attention2D(dim=4, num_sources=2, num_heads=2)
        >>> [tuple(x.shape) for x in layer([states] * 2, [present] * 2)]
        [(1, 3, 4), (1, 3, 4)]

    Reference:
        - [Trans2D, arXiv 2110.11072](https://arxiv.org/abs/2110.11072), section 3.2.
    """

    def __init__(
        self,
        dim: int,
        num_sources: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_sources = num_sources
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        # Kernels stand side by side: the bound must not depend on their number.
        lecun, sources = keras.initializers.LecunUniform, range(num_sources)
        self._project = [seeded_dense(self, f"project_{k}", 3 * dim, lecun) for k in sources]
        self._join = [seeded_dense(self, f"join_{k}", dim, lecun) for k in sources]
        self._drop = seeded_dropout(self)

    def build(self, states_shape=None, present_shape=None) -> None:
        for layer in (*self._project, *self._join):
            layer.build((None, None, self.dim))
        self.alpha = self.add_weight(shape=(3,), initializer="ones", name="alpha")
        self.built = True

    def call(
        self, states: Sequence[Tensor], present: Sequence[Tensor], training: bool | None = None
    ) -> list[Tensor]:
        length, sources = ops.shape(states[0])[1], self.num_sources
        size = self.dim // self.num_heads
        present = ops.stack(present, axis=2)
        query, key, value = self._heads(states, present)
        cells = (-1, self.num_heads, length * sources, size)
        scores = self._scores(query * size**-0.5, key, length)
        mask = ops.reshape(present, (-1, 1, 1, length * sources))
        weights = self._drop(masked_softmax(scores, mask), training=training)
        heads = ops.matmul(weights, ops.reshape(value, cells))
        heads = ops.reshape(heads, (-1, self.num_heads, length, sources, size))
        joined = ops.reshape(ops.transpose(heads, (0, 2, 3, 1, 4)), (-1, length, sources, self.dim))
        return [
            join(state)
            for join, state in zip(self._join, ops.unstack(joined, sources, axis=2), strict=True)
        ]

    def _heads(self, states, present) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `(batch, heads, length, sources, size)`; absent ones 0."""
        projected = [dense(state) for dense, state in zip(self._project, states, strict=True)]
        projected = ops.stack(projected, axis=2)
        projected = projected * ops.cast(present, projected.dtype)[..., None]
        shape = (-1, ops.shape(states[0])[1], self.num_sources, 3, self.num_heads)
        projected = ops.reshape(projected, (*shape, self.dim // self.num_heads))
        return tuple(ops.unstack(ops.transpose(projected, (3, 0, 4, 1, 2, 5)), 3))

    def _scores(self, query, key, length) -> Tensor:
        """Floats `(batch, heads, length * sources, length * sources)`."""
        heads, sources = self.num_heads, self.num_sources
        size = self.dim // heads
        shapes = {
            "cells": (-1, heads, length * sources, size),
            "positions": (-1, heads, length, sources * size),
            "sources": (-1, heads, sources, length * size),
        }

        def products(queries, keys, shape):
            queries, keys = ops.reshape(queries, shapes[shape]), ops.reshape(keys, shapes[shape])
            return ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))

        by_source = (0, 1, 3, 2, 4)
        full = products(query, key, "cells")
        full = ops.reshape(full, (-1, heads, length, sources, length, sources))
        across = products(query, key, "positions")[:, :, :, None, :, None]
        between = products(
            ops.transpose(query, by_source), ops.transpose(key, by_source), "sources"
        )[:, :, None, :, None, :]
        alpha = ops.cast(self.alpha, full.dtype)
        scores = alpha[0] * full + (alpha[1] * between + alpha[2] * across)
        return ops.reshape(scores, (-1, heads, length * sources, length * sources))


@keras.saving.register_keras_serializable(package="kdsr_tf")
class TransformerBlock2D(ConfiguredLayer):
    """`Attention2D` and a point-wise network per source, each LayerNorm(x + Dropout(f(x))).

    As in the authors' code, kernels, scales and shifts are a source's own and the
    network is a GELU between two matrices. Unlike there, a cell is normalised alone and
    not with the other sources of its position, so that an absent source does not
    matter, and the network is as wide as its input.

    Arguments, call and result are those of `Attention2D`; units are dropped, too.

    Example:
        >>> import numpy as np
        >>> states, present = np.ones((1, 3, 4), "float32"), np.ones((1, 3), bool)
        >>> block = TransformerBlock2D(dim=4, num_sources=1, num_heads=2)
        >>> [tuple(x.shape) for x in block([states], [present])]
        [(1, 3, 4)]

    Reference:
        - [Trans2D, arXiv 2110.11072](https://arxiv.org/abs/2110.11072).
    """

    def __init__(
        self,
        dim: int,
        num_sources: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_sources = num_sources
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        sources = range(num_sources)
        self._attention = Attention2D(
            dim, num_sources, num_heads, dropout, **seeded_part(self, "attention")
        )
        self._inner = [seeded_dense(self, f"inner_{k}", dim, activation="gelu") for k in sources]
        self._outer = [seeded_dense(self, f"outer_{k}", dim) for k in sources]
        self._attention_norm = [self._norm(f"attention_norm_{k}") for k in sources]
        self._dense_norm = [self._norm(f"dense_norm_{k}") for k in sources]
        self._drop = seeded_dropout(self)

    def build(self, states_shape=None, present_shape=None) -> None:
        self._attention.build()
        for layer in (*self._inner, *self._outer, *self._attention_norm, *self._dense_norm):
            layer.build((None, None, self.dim))
        self.built = True

    def call(
        self, states: Sequence[Tensor], present: Sequence[Tensor], training: bool | None = None
    ) -> list[Tensor]:
        attended = self._attention(states, present, training=training)
        outputs = []
        for k, state in enumerate(states):
            state = state + self._drop(attended[k], training=training)
            state = self._attention_norm[k](state)
            dense = self._outer[k](self._inner[k](state))
            outputs.append(self._dense_norm[k](state + self._drop(dense, training=training)))
        return outputs

    def _norm(self, name: str) -> RowNorm:
        return RowNorm(dtype=self.dtype_policy, name=name)
