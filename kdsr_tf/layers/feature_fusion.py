"""Item features into one vector per position."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import Dense
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.schema import IDS
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class FeatureFusion(ConfiguredLayer):
    """x = W [e_v; e_a; e_b] + b, the input of backbones that see one vector per item.

    Without modalities x = e_v, and the layer has no weights. Padding is mapped
    like any item; mask it downstream.

    Args:
        dim: Size of the result, > 0.
        modalities: Embeddings joined to the ids, in this order.
        seed: Seed of the kernel.

    Call arguments:
        embeddings: Result of `ItemTables`: `ids` and each modality,
            `(batch, length, dim)`.

    Returns:
        Floats `(batch, length, dim)`.

    Example:
        >>> import numpy as np
        >>> fuse = FeatureFusion(dim=4, modalities=("text",))
        >>> ids = np.ones((2, 3, 4), "float32")
        >>> tuple(fuse({"ids": ids, "text": ids}).shape)
        (2, 3, 4)
    """

    def __init__(self, dim: int, modalities: Sequence[str] = (), seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.modalities = tuple(modalities)
        self.seed = seed
        self._dense = None
        if self.modalities:
            initializer = keras.initializers.GlorotUniform(seed=derive_seed(seed, "fusion"))
            self._dense = Dense(
                dim, kernel_initializer=initializer, dtype=self.dtype_policy, name="dense"
            )

    def build(self, input_shape=None) -> None:
        if self._dense is not None:
            self._dense.build((None, None, self.dim * (1 + len(self.modalities))))
        self.built = True

    def call(self, embeddings: dict[str, Tensor]) -> Tensor:
        if self._dense is None:
            return embeddings[IDS]
        sources = [embeddings[name] for name in (IDS, *self.modalities)]
        return self._dense(ops.concatenate(sources, axis=-1))
