"""Losses of backbones between a state and the features of the item after it."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.ops.correlation import unit_vectors
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.ops.replicas import gather_over_replicas
from kdsr_tf.schema import ITEMS, present_key
from kdsr_tf.types import Tensor


def next_present(embeddings: dict[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Whether the item after a position has any of some modalities; false if padding follows.

    Args:
        embeddings: Result of `ItemTables`.
        modalities: Names, at least one.

    Returns:
        Bools `(batch, length - 1)`.
    """
    present = real_positions(embeddings[ITEMS][:, 1:])
    has = [embeddings[present_key(modality)][:, 1:] for modality in modalities]
    return ops.logical_and(present, ops.any(ops.stack(has), axis=0))


def mean_over_positions(losses: Tensor, valid: Tensor) -> Tensor:
    """Mean of finite losses `(batch, positions)` over the valid positions; 0 if there is none."""
    weights = ops.cast(valid, losses.dtype)
    return ops.sum(losses * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)


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
        seed: Seed of the kernels.

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


@keras.saving.register_keras_serializable(package="kdsr_tf")
class ItemTower(ConfiguredLayer):
    """A contrast between the states of a sequence and the features of its next items.

    An item is z = W mean_m ReLU(W_m f_m / ‖f_m‖ + b_m) over the modalities it has; a
    state is u = W_u s. With cosine similarities over τ, the state at position t of a
    window must tell z of its next item from those that the other windows of the batch
    hold at the same position (InfoNCE). So a batch of B windows of length L costs
    L · B² products and not (L · B)².

    Features get no gradient: they supervise. Candidates without any modality, padding,
    and the next item itself in another window are no negatives. Under a `tf.distribute`
    strategy candidates come from all replicas: the loss is that of one. The loss of a
    window is the mean over positions whose next item has a modality, 0 without any.

    Args:
        dim: Size of states and features, > 0.
        modalities: What items are encoded from.
        weight: Weight of the term.
        temperature: τ, > 0.
        seed: Seed of the kernels.

    Call arguments:
        embeddings: Result of `ItemTables`.
        states: Floats `(batch, length, dim)` of the backbone.

    Returns:
        `contrast`: floats `(batch,)`.

    Raises:
        ValueError: for a temperature that is not > 0.

    Example:
        >>> import numpy as np
        >>> tower = ItemTower(dim=4, modalities=("text",))
        >>> items, states = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "text": states, "text_present": items > 0}
        >>> float(tower(embeddings, states)["contrast"][0])  # no other window, no negative
        0.0

    Reference:
        - [MMSRec, arXiv 2304.13277](https://arxiv.org/abs/2304.13277).
    """

    def __init__(
        self,
        dim: int,
        modalities: Sequence[str],
        weight: float = 1.0,
        temperature: float = 0.05,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")
        self.dim = dim
        self.modalities = tuple(modalities)
        self.weight = weight
        self.temperature = temperature
        self.seed = seed
        self.term_weights = {"contrast": weight}
        self._encode = {m: seeded_dense(self, m, dim, activation="relu") for m in self.modalities}
        self._item = seeded_dense(self, "item", dim)
        self._state = seeded_dense(self, "state", dim)

    def build(self, embeddings_shape=None, states_shape=None) -> None:
        for layer in (*self._encode.values(), self._item, self._state):
            layer.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], states: Tensor) -> dict[str, Tensor]:
        items, valid = embeddings[ITEMS][:, 1:], next_present(embeddings, self.modalities)
        state = unit_vectors(self._state(states[:, :-1]))
        item = unit_vectors(self._encoded(embeddings))
        positives = ops.sum(state * item, axis=-1) / self.temperature
        # Position first: every position compares the windows of the batch.
        candidates = ops.transpose(gather_over_replicas(item), (1, 2, 0))
        products = ops.matmul(ops.transpose(state, (1, 0, 2)), candidates) / self.temperature
        # An item of 0 is no candidate.
        names = ops.where(valid, items, ops.zeros_like(items))
        others = ops.transpose(gather_over_replicas(names))[:, None, :]
        negative = ops.logical_and(others > 0, others != ops.transpose(items)[:, :, None])
        negatives = ops.logsumexp(ops.where(negative, products, -1e9), axis=-1)
        # log(e^p + e^n) - p
        losses = ops.softplus(ops.transpose(negatives) - positives)
        return {"contrast": mean_over_positions(losses, valid)}

    def _encoded(self, embeddings: dict[str, Tensor]) -> Tensor:
        total, count = 0.0, 0.0
        for modality, encode in self._encode.items():
            encoded = encode(unit_vectors(ops.stop_gradient(embeddings[modality][:, 1:])))
            present = ops.cast(embeddings[present_key(modality)][:, 1:, None], encoded.dtype)
            total, count = total + present * encoded, count + present
        return self._item(total / ops.maximum(count, 1.0))
