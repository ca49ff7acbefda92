"""NOVA: features make better attention and stay out of the items."""

from __future__ import annotations

import keras

from kdsr_tf.backbones.causal_transformer import SteeredTransformer
from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.non_invasive_attention import NonInvasiveAttention


@keras.saving.register_keras_serializable(package="kdsr_tf")
class NOVA(SteeredTransformer):
    """Non-invasive attention: values are ids, queries and keys are ids fused with all else.

    The states R start as e_v. In every block Q and K come from F(R, p, e_a, e_b) with
    the position p as side information like any other, V from R: the states stay in the
    space of ids, in which the prediction is made.

    Simplified against the paper: a causal mask and the next item in place of BERT's
    masked items, blocks as in SASRec (normalised before, a ReLU network of width d in
    place of BERT's), and sources that are layer-normalised, because tuned features
    and ids differ in scale.

    Args:
        *args: Those of `Backbone`, with its keywords, call and result.
        fusion: F, one of the paper's `add`, `concat` and `gating`; see
            `NonInvasiveAttention`.

    Example:
        >>> import numpy as np
        >>> backbone = NOVA(dim=4, max_length=3, modalities=("text",), fusion="concat")
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "ids": ids, "text": ids, "text_present": items > 0}
        >>> tuple(backbone(embeddings).shape)
        (1, 3, 4)

    Reference:
        - [NOVA, arXiv 2103.03578](https://arxiv.org/abs/2103.03578).
    """

    def __init__(self, *args, fusion: str = "gating", **kwargs):
        super().__init__(*args, **kwargs)
        self.fusion = fusion

    def make_attention(self, seed: int) -> CausalAttention:
        return self.make_attention_of(NonInvasiveAttention, seed, self.num_sources, self.fusion)
