"""DIF-SR: a matrix of attention for every source, and a prediction of features."""

from __future__ import annotations

import keras

from kdsr_tf.backbones.causal_transformer import SteeredTransformer
from kdsr_tf.layers.auxiliaries import AttributePredictor
from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.seeding import derive_seed


@keras.saving.register_keras_serializable(package="kdsr_tf")
class DIFSR(SteeredTransformer):
    """Decoupled side information fusion for sequential recommendation.

    The states start as e_v and give the values. Ids, positions and every modality have
    queries and keys of their own; the attention of a block is the softmax of the sum of
    their products. In training an auxiliary predictor reads the features of the next
    item off the states, one term `{m}_attribute` per modality.

    Simplified against the paper: of its fusions the sum; features as wide as ids;
    blocks as in SASRec (normalised before, ReLU) and sources that are layer-normalised;
    and, because attributes here are vectors and not classes, the predictor regresses
    them (see `AttributePredictor`).

    Args:
        *args: Those of `Backbone`, with its keywords, call and result.
        attribute_weight: λ of the predictor, >= 0; 0 leaves it out. The authors'
            configuration for Amazon Beauty takes 10.

    Example:
        >>> import numpy as np
        >>> backbone = DIFSR(dim=4, max_length=3, modalities=("text",))
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "ids": ids, "text": ids, "text_present": items > 0}
        >>> tuple(backbone(embeddings).shape)
        (1, 3, 4)
        >>> backbone.make_auxiliary().term_weights
        {'text_attribute': 10.0}

    Reference:
        - [DIF-SR, arXiv 2204.11046](https://arxiv.org/abs/2204.11046).
    """

    def __init__(self, *args, attribute_weight: float = 10.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.attribute_weight = attribute_weight

    def make_attention(self, seed: int) -> CausalAttention:
        return self.make_attention_of(CausalAttention, seed, self.num_sources)

    def make_auxiliary(self) -> AttributePredictor | None:
        if not self.modalities or not self.attribute_weight:
            return None
        return AttributePredictor(
            self.dim,
            self.modalities,
            self.attribute_weight,
            derive_seed(self.seed, "predictor"),
            dtype=self.dtype_policy,
            name="attribute_predictor",
        )
