"""A choice among vectors."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.ops.masking import masked_softmax
from kdsr_tf.ops.softmax import softmax
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SoftmaxGate(ConfiguredLayer):
    """Σ_k g_k c_k over candidates c_k, with g = softmax_k(w ReLU(W c_k + b)).

    All candidates share W, b and w; a bias after w would cancel. Where no candidate
    is present, the result is finite and means nothing.

    Args:
        dim: Size of a candidate, > 0.
        seed: Of the kernels.

    Call arguments:
        candidates: List of floats `(batch, length, dim)`.
        present: Bools `(batch, length)` for each candidate: absent ones get no
            weight. None where all are present.

    Returns:
        Floats `(batch, length, dim)`.

    Example:
        >>> import numpy as np
        >>> states = np.ones((1, 3, 4), "float32")
        >>> tuple(SoftmaxGate(dim=4)([states, states]).shape)
        (1, 3, 4)

    Reference:
        - [MMSR, arXiv 2308.15980](https://arxiv.org/abs/2308.15980).
    """

    def __init__(self, dim: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.seed = seed
        self._hidden = seeded_dense(self, "hidden", dim, activation="relu")
        self._energy = seeded_dense(self, "energy", 1, use_bias=False)

    def build(self, candidates_shape=None, present_shape=None) -> None:
        self._hidden.build((None, None, self.dim))
        self._energy.build((None, None, self.dim))
        self.built = True

    def call(self, candidates: Sequence[Tensor], present: Sequence[Tensor] | None = None) -> Tensor:
        energies = [self._energy(self._hidden(candidate)) for candidate in candidates]
        energies = ops.concatenate(energies, axis=-1)
        if present is None:
            weights = softmax(energies)
        else:
            weights = masked_softmax(energies, ops.stack(present, axis=-1))
        return sum(weights[..., k : k + 1] * candidate for k, candidate in enumerate(candidates))
