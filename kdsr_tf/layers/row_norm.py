"""Layer normalisation of states."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="kdsr_tf")
class RowNorm(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis.

    The class keeps the name under which saved students hold the weights of lists of layers.

    Example:
        >>> import numpy as np
        >>> outputs = RowNorm()(np.array([[1.0, 3.0]], "float32"))
        >>> [round(float(y), 2) for y in outputs[0]]
        [-1.0, 1.0]

    Reference:
        - [Layer Normalization, arXiv 1607.06450](https://arxiv.org/abs/1607.06450).
    """
