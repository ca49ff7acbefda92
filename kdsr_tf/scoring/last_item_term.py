"""What the last item alone says of the next one."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeding import seeded_dropout
from kdsr_tf.ops.correlation import unit_vectors
from kdsr_tf.types import Tensor

INITIAL_GAIN = 0.5
"""Of the term, beside a representation of the same length."""

INITIAL_ID_GAIN = -0.5
"""Of the id within the term: no item is bought again because it is like itself."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class LastItemTerm(ConfiguredLayer):
    """Adds the last item to a representation, in the space in which items are scored.

    With g · (a e_v + Σ_m W_m e_m) of the last item added to P, an item is scored by how
    alike it looks and reads to the last one, from the first step on; what a backbone has to
    learn is the rest. The gains g and a are learnt. a starts negative, so that the last
    item itself does not come first.

    Args:
        dropout: Share of the term's units dropped in training, in [0, 1).
        unit: Whether the term has length 1 before its gain, as P has where items are scored
            by cosines.
        seed: Seed of dropout.

    Call arguments:
        representations: P, floats `(..., dim)`.
        ids: e_v of the last items, likewise.
        features: W_m e_m of the last items in each modality, likewise.
        training: Whether to drop.

    Returns:
        Floats `(..., dim)`.

    Example:
        >>> import numpy as np
        >>> zeros, ones = np.zeros((1, 2), "float32"), np.ones((1, 2), "float32")
        >>> [float(value) for value in LastItemTerm()(zeros, ones, [3 * ones])[0]]
        [1.25, 1.25]

    Reference:
        - [Factorizing Personalized Markov Chains](https://doi.org/10.1145/1772690.1772773),
          for a term of the last item; this one starts from content.
    """

    def __init__(self, dropout: float = 0.0, unit: bool = False, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.unit = unit
        self.seed = seed
        self._drop = seeded_dropout(self)

    def build(self, representations_shape=None, ids_shape=None, features_shape=None) -> None:
        constant = keras.initializers.Constant
        self.gain = self.add_weight(shape=(), initializer=constant(INITIAL_GAIN), name="gain")
        self.id_gain = self.add_weight(
            shape=(), initializer=constant(INITIAL_ID_GAIN), name="id_gain"
        )
        self.built = True

    def term(self, ids: Tensor, features: Sequence[Tensor]) -> Tensor:
        """a e_v + Σ_m W_m e_m; arguments as in the call."""
        term = ops.cast(self.id_gain, ids.dtype) * ids
        for vectors in features:
            term = ops.add(term, vectors)
        return term

    def call(
        self,
        representations: Tensor,
        ids: Tensor,
        features: Sequence[Tensor] = (),
        training: bool | None = None,
    ) -> Tensor:
        term = self.term(ids, features)
        if self.unit:
            term = unit_vectors(term)
        term = self._drop(ops.cast(term, representations.dtype), training=training)
        return representations + ops.cast(self.gain, representations.dtype) * term
