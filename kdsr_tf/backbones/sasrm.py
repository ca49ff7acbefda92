"""SASRM: SASRec with modality features."""

from __future__ import annotations

import keras

from kdsr_tf.backbones.sasrec import SASRec


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SASRM(SASRec):
    """SASRec over ids and modality features, which it insists on.

    x_t = W [e_v; e_a; e_b] + b + p_t. The tables of the baseline are frozen
    (`modality_tables: frozen`); tuned and distilled into, this is the KDSR of the paper
    on MovieLens-1M. Simplified: KDSR names the baseline without its equations, so what
    is not said there is as in `SASRec`. `modalities` must not be empty.

    Example:
        >>> import numpy as np
        >>> backbone = SASRM(dim=4, max_length=3, modalities=("text",))
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "ids": ids, "text": ids, "text_present": items > 0}
        >>> tuple(backbone(embeddings).shape)
        (1, 3, 4)

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257).
        - [SASRec, arXiv 1808.09781](https://arxiv.org/abs/1808.09781).
    """

    needs_modalities = True
