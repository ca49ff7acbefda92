"""Trans2D: a transformer over positions and sources at once."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeding import seeded_part
from kdsr_tf.layers.transformer_2d import TransformerBlock2D
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.schema import IDS, ITEMS, present_key
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Trans2D(Backbone):
    """Attention over the table of positions times {id, image, text}.

    The cells start from an item's embeddings plus a position embedding, counted from
    the oldest item of the window, layer-normalised. `num_layers` blocks of
    `TransformerBlock2D` follow; the state of a position is the mean of its cells. An
    item without a modality lacks this cell. Every position sees the whole history.

    Simplified against the paper: it scores the items of a watch list that follow the
    history, here the states go to the prediction head; heads share the size `dim`
    (there each has it); and see the block for its normalisation and width. Padding
    takes no part.

    Arguments, call and result are those of `Backbone`.

    Example:
        >>> import numpy as np
        >>> backbone = Trans2D(dim=4, max_length=3, modalities=("text",))
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> inputs = {"items": items, "ids": ids, "text": ids, "text_present": items > 3}
        >>> tuple(backbone(inputs).shape)
        (1, 3, 4)

    Reference:
        - [Trans2D, arXiv 2110.11072](https://arxiv.org/abs/2110.11072).
    """

    causal = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._drop = self.make_dropout("drop_input")
        self._norms: list[Any] = [
            RowNorm(dtype=self.dtype_policy, name=f"{source}_norm")
            for source in (IDS, *self.modalities)
        ]
        sizes = (self.dim, 1 + len(self.modalities), self.num_heads, self.dropout)
        self._blocks = [
            TransformerBlock2D(*sizes, **seeded_part(self, f"block_{k}"))
            for k in range(self.num_layers)
        ]

    def build(self, input_shape=None) -> None:
        self.positions = self.make_positions()
        for layer in (*self._norms, *self._blocks):
            layer.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], training: bool | None = None) -> Tensor:
        items = embeddings[ITEMS]
        present = [real_positions(items)]
        present += [embeddings[present_key(modality)] for modality in self.modalities]
        positions = self.positions[: ops.shape(items)[1]]
        states = []
        for norm, name in zip(self._norms, (IDS, *self.modalities), strict=True):
            states.append(self._drop(norm(embeddings[name] + positions), training=training))
        for block in self._blocks:
            states = block(states, present, training=training)
        weights = [ops.cast(exists, states[0].dtype)[..., None] for exists in present]
        total = sum(weight * state for weight, state in zip(weights, states, strict=True))
        return total / ops.maximum(sum(weights), 1)
