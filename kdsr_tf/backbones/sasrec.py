"""SASRec: a causal transformer over items."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kdsr_tf.backbones.causal_transformer import CausalTransformer
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SASRec(CausalTransformer):
    """Self-attentive sequential recommendation, with features fused into its input.

    x_t = W [e_v; e_a; e_b] + b + p_t with a learnt position embedding p_t, then
    `num_layers` blocks and a last layer normalisation. Simplified against the paper:
    x_t is layer-normalised first (instead of scaled by √d), because tuned features and
    ids differ in scale, and the loss is a softmax over items in place of one sampled
    negative. Arguments, call and result are those of `Backbone`.

    Example:
        >>> import numpy as np
        >>> backbone = SASRec(dim=4, max_length=3)
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> tuple(backbone({"items": items, "ids": ids}).shape)
        (1, 3, 4)

    Reference:
        - [SASRec, arXiv 1808.09781](https://arxiv.org/abs/1808.09781).
    """

    folded = "sasrec"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fusion = self.make_fusion()

    def build(self, input_shape=None) -> None:
        self._fusion.build()
        super().build()

    def enter(
        self, embeddings: dict[str, Tensor], positions: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        return self._fusion(embeddings) + positions, ()
