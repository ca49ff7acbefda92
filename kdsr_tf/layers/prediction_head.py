"""From hidden states to the representation of a prefix."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import zero_padding
from kdsr_tf.ops.pooling import prefix_mean, trailing_sum
from kdsr_tf.types import Tensor

POOLINGS = ("eq6", "last_sum", "last")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class PredictionHead(ConfiguredLayer):
    """The representation P of every prefix, from long- and short-term states (Eq. 6).

    With `eq6`, α_i = W_2 ReLU(W_1 h_i), not normalised; h^s = Σ α_i h_i over the
    last q items; h^l is the mean of h over all items; P = [h^s; h^l] W_3, without
    biases. `last_sum` is the plain sum of the last q states (the authors' code,
    with q = 2; the paper does not give q) and `last` the last state: neither has
    weights. Every position gets the P of the prefix that ends there, in one
    pass. Positions of padding get zeros and reach no other position.

    Args:
        dim: Size of states and result, > 0.
        pooling: `eq6`, `last_sum` or `last`.
        short_term: Items q of the short-term part, > 0.
        seed: Seed of W_1, W_2 and W_3.

    Call arguments:
        states: Floats `(batch, length, dim)`.
        items: Ints `(batch, length)`, right-padded with 0.

    Returns:
        Floats of the shape of the states.

    Raises:
        ValueError: for another pooling or a `short_term` below 1.

    Example:
        >>> import numpy as np
        >>> head = PredictionHead(dim=4, pooling="last_sum")
        >>> states = np.ones((1, 3, 4), "float32")
        >>> [float(p) for p in head(states, np.array([[5, 7, 0]]))[0, :, 0]]
        [1.0, 2.0, 0.0]

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 6.
    """

    def __init__(
        self, dim: int, pooling: str = "eq6", short_term: int = 2, seed: int = 0, **kwargs
    ):
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(
                f"`pooling` must be one of {', '.join(POOLINGS)}. Received: pooling={pooling!r}."
            )
        if short_term < 1:
            raise ValueError(f"`short_term` must be > 0. Received: short_term={short_term}.")
        self.dim = dim
        self.pooling = pooling
        self.short_term = short_term
        self.seed = seed
        if pooling == "eq6":
            self._hidden = seeded_dense(self, "W_1", dim, activation="relu", use_bias=False)
            self._weight = seeded_dense(self, "W_2", 1, use_bias=False)
            self._join = seeded_dense(self, "W_3", dim, use_bias=False)

    def build(self, states_shape=None, items_shape=None) -> None:
        if self.pooling == "eq6":
            self._hidden.build((None, None, self.dim))
            self._weight.build((None, None, self.dim))
            self._join.build((None, None, 2 * self.dim))
        self.built = True

    def call(self, states: Tensor, items: Tensor) -> Tensor:
        if self.pooling == "last":
            return zero_padding(states, items)
        if self.pooling == "last_sum":
            return zero_padding(trailing_sum(states, self.short_term), items)
        short = trailing_sum(self._weight(self._hidden(states)) * states, self.short_term)
        both = ops.concatenate([short, prefix_mean(states)], axis=-1)
        return zero_padding(self._join(both), items)

    def at(self, states: Tensor, windows: Tensor | None, ends: Tensor) -> Tensor:
        """P of some prefixes alone, as the call gives it at their last position.

        Args:
            states: As in the call.
            windows: Row of each prefix, ints `(prefixes,)`; None where each row has one.
            ends: Its last position, ints `(prefixes,)`; -1 for an empty prefix, whose P is 0.

        Returns:
            Floats `(prefixes, dim)`.
        """
        if windows is None:
            windows = ops.arange(ops.shape(states)[0], dtype="int32")
        recent = 1 if self.pooling == "last" else self.short_term
        before = ends[:, None] - ops.arange(recent, dtype="int32")
        rows = _rows(states, windows[:, None], ops.maximum(before, 0))
        rows = rows * ops.cast(before >= 0, rows.dtype)[..., None]
        if self.pooling != "eq6":
            return ops.sum(rows, axis=1)
        short = ops.sum(self._weight(self._hidden(rows)) * rows, axis=1)
        long = _rows(prefix_mean(states), windows, ops.maximum(ends, 0))
        long = long * ops.cast(ends >= 0, long.dtype)[:, None]
        return self._join(ops.concatenate([short, long], axis=-1))


def _rows(states: Tensor, windows: Tensor, positions: Tensor) -> Tensor:
    """States at positions `(...)` of windows that broadcast to them: `(..., dim)`."""
    length, dim = ops.shape(states)[1], states.shape[-1]
    return gather(ops.reshape(states, (-1, dim)), windows * length + positions)
