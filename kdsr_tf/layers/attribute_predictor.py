"""The features of the next item, read off a state."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.ops.next_items import mean_over_positions, next_present
from kdsr_tf.ops.unit_vectors import unit_vectors
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class AttributePredictor(ConfiguredLayer):
    """Regresses the features of the next item on the state before it.

    Per modality: the mean over dimensions of (W s_t + b − f_{t+1} / ‖f_{t+1}‖)². The
    feature is a target and gets no gradient; its length is taken out, so that the scale
    of the tables does not set the weight of the term. Like the paper's cross-entropy,
    which is a mean over classes, the term shrinks as attributes get wider. A position
    counts if the window holds an item after it that has the modality; the loss of a
    window is the mean over its positions, 0 without any.

    Args:
        dim: Size of states and features, > 0.
        modalities: What is predicted.
        weight: Weight of every term.
        seed: Of the kernels.

    Call arguments:
        embeddings: Result of `ItemTables`.
        states: Floats `(batch, length, dim)` of the backbone.

    Returns:
        Floats `(batch,)` by term, `{m}_attribute`.

    Example:
        >>> import numpy as np
        >>> predictor = AttributePredictor(dim=4, modalities=("text",))
        >>> items, states = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "text": states, "text_present": items > 0}
        >>> tuple(predictor(embeddings, states)["text_attribute"].shape)
        (1,)

    Reference:
        - [DIF-SR, arXiv 2204.11046](https://arxiv.org/abs/2204.11046).
    """

    def __init__(
        self, dim: int, modalities: Sequence[str], weight: float = 10.0, seed: int = 0, **kwargs
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.modalities = tuple(modalities)
        self.weight = weight
        self.seed = seed
        self.term_weights = {f"{modality}_attribute": weight for modality in self.modalities}
        self._predict = {
            modality: seeded_dense(self, modality, dim) for modality in self.modalities
        }

    def build(self, embeddings_shape=None, states_shape=None) -> None:
        for layer in self._predict.values():
            layer.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], states: Tensor) -> dict[str, Tensor]:
        losses = {}
        for modality, predict in self._predict.items():
            predicted = ops.cast(predict(states[:, :-1]), "float32")
            target = unit_vectors(ops.stop_gradient(embeddings[modality][:, 1:]))
            errors = ops.mean(ops.square(predicted - target), axis=-1)
            present = next_present(embeddings, (modality,))
            losses[f"{modality}_attribute"] = mean_over_positions(errors, present)
        return losses
