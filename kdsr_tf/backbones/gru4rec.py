"""GRU4Rec: recurrent units over items."""

from __future__ import annotations

import keras

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class GRU4Rec(Backbone):
    """Gated recurrent units over x_t = W [e_v; e_a; e_b] + b.

    `num_layers` units of size `dim`, dropout on the input and between them.
    Simplified against the paper: no session-parallel batches (every window is a
    sequence of its own) and the full softmax in place of sampled ranking losses.
    Padding stands on the right, so no real state depends on it. Arguments, call and result are
    those of `Backbone`; `num_layers` counts recurrent layers, and `num_heads` is not used.

    Example:
        >>> import numpy as np
        >>> backbone = GRU4Rec(dim=4, max_length=3)
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> tuple(backbone({"items": items, "ids": ids}).shape)
        (1, 3, 4)

    Reference:
        - [GRU4Rec, arXiv 1511.06939](https://arxiv.org/abs/1511.06939).
    """

    uses_heads = False
    folded = "gru4rec"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        policy = self.dtype_policy
        self._fusion = self.make_fusion()
        self._drops = [self.make_dropout(f"drop_{k}") for k in range(self.num_layers)]
        self._layers_of_units = [
            keras.layers.GRU(
                self.dim,
                return_sequences=True,
                kernel_initializer=keras.initializers.GlorotUniform(
                    seed=derive_seed(self.seed, f"kernel_{k}")
                ),
                recurrent_initializer=keras.initializers.Orthogonal(
                    seed=derive_seed(self.seed, f"recurrent_{k}")
                ),
                dtype=policy,
                name=f"units_{k}",
            )
            for k in range(self.num_layers)
        ]

    def build(self, input_shape=None) -> None:
        for layer in (self._fusion, *self._layers_of_units):
            layer.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], training: bool | None = None) -> Tensor:
        states = self._fusion(embeddings)
        for drop, units in zip(self._drops, self._layers_of_units, strict=True):
            states = units(drop(states, training=training), training=training)
        return states
