"""Logits of the target and of sampled negatives."""

from __future__ import annotations

from collections.abc import Callable

import keras
import keras_rs
import numpy as np
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.ops.gather import gather
from kdsr_tf.types import Tensor

DISTRIBUTIONS = ("uniform", "popularity")
_NO_SCORE = -1e9


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SampledLogits(ConfiguredLayer):
    """Logits whose softmax stands for the one over a large catalogue.

    Column 0 is the target; the others are negatives that all rows of a step share.
    A negative that was drawn with expected count c stands for 1/c items: its logit
    loses log c (logQ correction). One that is the row's target counts as nothing
    (accidental hit). The sum of exponentials is then an unbiased estimate of the sum over
    all items, and the cross-entropy of column 0 one of the full softmax loss that
    gets exact as the number of negatives grows.

    The proposal distribution is cut into `num_negatives` equal slices, with one draw
    from each: c is exact, the variance no larger than that of independent draws, and
    `num_items` uniform negatives are all items, once each.

    `keras_rs.layers.RemoveAccidentalHits` is not used: in Keras-RS 0.4 it adds
    1e-40 to a hit's logit, which removes nothing.

    Args:
        num_items: Items N, > 0.
        num_negatives: Negatives per step, in `1..num_items`.
        distribution: `uniform`, or `popularity`: log-uniform over popularity rank,
            the k-th of N has log((k + 1) / k) / log(N + 1), k from 1.
        seed: Seed of the draws.

    Call arguments:
        representations: P, floats `(count, dim)`.
        targets: Ints `(count,)`: items `1..num_items`; a row of target 0 means nothing.
        vectors_of: Takes items, ints `(any,)`, to their vectors `(any, dim)`, so that no
            vector is made that is not compared.

    Returns:
        Floats `(count, 1 + num_negatives)`, at least float32.

    Raises:
        ValueError: for another distribution, or a number of negatives out of range.

    Example:
        >>> layer = SampledLogits(num_items=9, num_negatives=4)
        >>> rows, table = np.ones((2, 3), "float32"), np.ones((10, 3), "float32")
        >>> vectors_of = lambda items: ops.take(table, items, axis=0)
        >>> tuple(layer(rows, np.array([5, 7]), vectors_of=vectors_of).shape)
        (2, 5)

    Reference:
        - [Bengio and Senecal, 2008](https://doi.org/10.1109/TNN.2007.912312)
        - [Yi et al., 2019](https://doi.org/10.1145/3298689.3346996)
    """

    def __init__(
        self,
        num_items: int,
        num_negatives: int,
        distribution: str = "uniform",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 1 <= num_negatives <= num_items:
            raise ValueError(
                f"`num_negatives` must be in 1..{num_items}, the number of items. "
                f"Received: num_negatives={num_negatives}."
            )
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"`distribution` must be one of {', '.join(DISTRIBUTIONS)}. "
                f"Received: distribution={distribution!r}."
            )
        self.num_items = num_items
        self.num_negatives = num_negatives
        self.distribution = distribution
        self.seed = seed
        self._draws = keras.random.SeedGenerator(seed)
        # Its default epsilon would raise every probability below 1e-6 to 1e-6.
        self._correct = keras_rs.layers.SamplingProbabilityCorrection(1e-30, dtype="float32")

    def build(self, *shapes) -> None:
        if self.distribution == "popularity":
            self._ranked = self.add_weight(
                shape=(self.num_items,),
                dtype="int32",
                initializer=lambda shape, dtype: ops.arange(1, shape[0] + 1, dtype=dtype),
                trainable=False,
                name="items_by_popularity",
            )
        self.built = True

    def call(
        self, representations: Tensor, targets: Tensor, vectors_of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        items, probabilities = self.draw()
        dtype = representations.dtype
        own = representations * ops.cast(vectors_of(targets), dtype)
        own = ops.sum(own, axis=-1, keepdims=True)
        others = ops.matmul(representations, ops.transpose(ops.cast(vectors_of(items), dtype)))
        # The target is one item: its expected count, draws times probability, is 1.
        logits = self._correct(
            ops.cast(ops.concatenate([own, others], axis=-1), "float32"),
            ops.concatenate([ops.full((1,), 1.0 / self.num_negatives), probabilities]),
        )
        hits = ops.equal(ops.cast(targets, "int32")[:, None], items[None, :])
        return ops.where(ops.pad(hits, [[0, 0], [1, 0]]), _NO_SCORE, logits)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Negatives of the next step.

        Returns:
            Items, int32 `(num_negatives,)`, and the probability of each in the
            proposal distribution.
        """
        place = keras.random.uniform((self.num_negatives,), seed=self._draws)
        place = place + ops.cast(ops.arange(self.num_negatives), "float32")
        last = self.num_items - 1
        if self.distribution == "uniform":
            rank = ops.cast(place * (self.num_items / self.num_negatives), "int32")
            rank = ops.minimum(rank, last)
            return rank + 1, ops.full((self.num_negatives,), 1.0 / self.num_items)
        span = float(np.log(self.num_items + 1.0))
        rank = ops.cast(ops.exp(place * (span / self.num_negatives)), "int32") - 1
        rank = ops.minimum(rank, last)
        probabilities = ops.log1p(1.0 / ops.cast(rank + 1, "float32")) / span
        return gather(self._ranked, rank), probabilities

    def set_popularity(self, counts: np.ndarray) -> None:
        """Rank the items; without it they count as ranked by index.

        Args:
            counts: Occurrences of each item, `(num_items + 1,)`; row 0 is ignored.

        Raises:
            ValueError: for another shape.
        """
        counts = np.asarray(counts)
        if counts.shape != (self.num_items + 1,):
            raise ValueError(
                f"`counts` must have shape ({self.num_items + 1},). Received: {counts.shape}."
            )
        if self.distribution == "popularity":
            self._ranked.assign((np.argsort(-counts[1:], kind="stable") + 1).astype("int32"))
