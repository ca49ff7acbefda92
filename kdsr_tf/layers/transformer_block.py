"""One block of a causal transformer."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_dropout, seeded_part
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class TransformerBlock(ConfiguredLayer):
    """Causal attention and a point-wise network, each x + Dropout(f(LayerNorm(x))).

    As in SASRec the point-wise network is as wide as its input and uses ReLU.
    Padding behaves as in `CausalAttention`.

    Args:
        dim: Size of inputs and outputs; a multiple of `num_heads`.
        num_heads: Attention heads, > 0.
        dropout: Share of units and attention weights dropped in training, in [0, 1).
        seed: Seed of kernels and dropout.
        attention: Layer in place of `CausalAttention`, called with the normalised
            states and the sources.

    Call arguments:
        states: Floats `(batch, length, dim)`.
        sources: What else the attention takes, if anything.
        training: Whether to drop.

    Returns:
        Floats of the shape of the states.

    Example:
        >>> import numpy as np
        >>> tuple(TransformerBlock(dim=4, num_heads=2)(np.ones((1, 3, 4), "float32")).shape)
        (1, 3, 4)

    Reference:
        - [SASRec, arXiv 1808.09781](https://arxiv.org/abs/1808.09781), section III.B.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        attention: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.seed = seed
        policy = self.dtype_policy
        self._attention = attention or CausalAttention(
            dim, num_heads, dropout, **seeded_part(self, "attention")
        )
        self._attention_norm = RowNorm(dtype=policy, name="attention_norm")
        self._dense_norm = RowNorm(dtype=policy, name="dense_norm")
        self._inner = seeded_dense(self, "inner", dim, activation="relu")
        self._outer = seeded_dense(self, "outer", dim)
        self._drop_attention = seeded_dropout(self, "drop_attention")
        self._drop_dense = seeded_dropout(self, "drop_dense")

    def build(self, states_shape=None, sources_shape=None) -> None:
        shape = (None, None, self.dim)
        children = (self._attention, self._attention_norm, self._dense_norm)
        for layer in (*children, self._inner, self._outer):
            # An attention from a configuration arrives built.
            if not layer.built:
                layer.build(shape)
        self.built = True

    def call(
        self,
        states: Tensor,
        sources: Sequence[Tensor] = (),
        training: bool | None = None,
    ) -> Tensor:
        attended = self._attention(self._attention_norm(states), sources, training=training)
        states = ops.add(states, self._drop_attention(attended, training=training))
        dense = self._outer(self._inner(self._dense_norm(states)))
        return ops.add(states, self._drop_dense(dense, training=training))

    def get_config(self) -> dict:
        attention = keras.saving.serialize_keras_object(self._attention)
        return {**super().get_config(), "attention": attention}

    @classmethod
    def from_config(cls, config: dict) -> TransformerBlock:
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**(config | {"attention": attention}))
