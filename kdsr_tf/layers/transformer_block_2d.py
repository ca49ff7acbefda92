"""One block of Trans2D."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kdsr_tf.layers.attention_2d import Attention2D
from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_dropout, seeded_part
from kdsr_tf.types import Tensor


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
