"""Predicting the next item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from kdsr_tf.items.known_items import NO_ITEM
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.losses.next_item_loss import NextItemLoss
from kdsr_tf.metrics.ranking_metric import HitRate, MeanReciprocalRank, pessimistic_ranks
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.objectives.objective import Objective, Step, Term
from kdsr_tf.objectives.sampled_logits import SampledLogits
from kdsr_tf.ops.kernels import chunks_fit
from kdsr_tf.ops.kernels.cross_entropy import summed_cross_entropy
from kdsr_tf.rules import check_smoothing
from kdsr_tf.schema import ITEMS
from kdsr_tf.types import Tensor

NEXT_ITEM = "next_item"
CUTOFFS = (5, 20)

_NO_SCORE = -6e4
"""Logit of a row without an item; float16 holds no number below -65504."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class NextItem(Objective):
    """Softmax cross-entropy of the next item: term `next_item`, a mean over targets.

    Training compares a target with all items, with `SampledLogits` (drawn ones), or, where
    items are computed, with the items of the batch. Tests always compare it with all items and
    add `hr_5`, `hr_20`, `mrr_5` and `mrr_20`
    (fractions; ties rank last).

    Args:
        label_smoothing: Probability, in [0, 1), that is spread over all items.
        drawn: Negatives that training compares a target with; None compares with all items.

    Raises:
        ValueError: for label smoothing together with `drawn`.
    """

    def __init__(self, label_smoothing: float = 0.0, drawn: SampledLogits | None = None, **kwargs):
        super().__init__(**kwargs)
        check_smoothing(label_smoothing, drawn and drawn.num_negatives)
        self.label_smoothing = label_smoothing
        self.drawn = drawn
        self.default_weights = {NEXT_ITEM: 1.0}
        self.reads_catalogue = drawn is None
        self._loss = NextItemLoss(label_smoothing, reduction="none")
        self._ranking = [kind(k) for kind in (HitRate, MeanReciprocalRank) for k in CUTOFFS]

    def build(self, input_shape=None) -> None:
        if self.drawn is not None:
            self.drawn.build()
        self.built = True

    def check(self, recommender: Recommender) -> None:
        if recommender.item_encoder.computed and (self.drawn or self.label_smoothing):
            raise ValueError(
                "Computed items are compared with those of their batch: there are no drawn ones, "
                "and no probability is spread over all. Received: "
                f"drawn={self.drawn}, label_smoothing={self.label_smoothing}."
            )

    def terms(
        self, step: Step, recommender: Recommender
    ) -> tuple[dict[str, Term], dict[str, Tensor]]:
        users, targets = step.users, step.targets
        count = ops.sum(ops.cast(targets > 0, "float32"))
        if step.scored_by is not None:
            logits = recommender.logits(users, step.scored_by)
            loss = ops.sum(self._loss(targets, logits))
            ranks = pessimistic_ranks(targets, logits)
            return {NEXT_ITEM: Term(loss, count)}, {"targets": targets, "ranks": ranks}
        if self.drawn is not None:
            loss = self._of_drawn(self.drawn, users, targets, recommender)
        else:
            loss = self._of_known(step, recommender)
        return {NEXT_ITEM: Term(loss, count)}, {}

    def metrics_of_tests(self) -> Sequence[keras.metrics.Metric]:
        return self._ranking

    def measure(self, found: Mapping[str, Tensor]) -> None:
        for metric in self._ranking:
            metric.update_ranks(found["targets"], found["ranks"])

    def set_popularity(self, counts: np.ndarray) -> None:
        """Rank the items that negatives are drawn from; see `SampledLogits`."""
        if self.drawn is not None:
            self.drawn.set_popularity(counts)

    def get_config(self) -> dict:
        drawn = self.drawn and keras.saving.serialize_keras_object(self.drawn)
        config = {"label_smoothing": self.label_smoothing, "drawn": drawn}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict) -> NextItem:
        drawn = config["drawn"] and keras.saving.deserialize_keras_object(config["drawn"])
        return cls(**{**config, "drawn": drawn})

    def _of_known(self, step: Step, recommender: Recommender) -> Tensor:
        """Of all items, or of those of the batch, which are few."""
        table, targets = recommender.item_vectors(step.known), step.known.rows_of(step.targets)
        computed = recommender.item_encoder.computed
        if chunks_fit(step.dynamic, step.users) and not computed:
            return summed_cross_entropy(step.users, table, targets, self.label_smoothing)
        logits = recommender.logits(step.users, table)
        if computed:
            filled = ops.equal(step.known.catalogue(())[ITEMS][1:], NO_ITEM)
            logits = ops.where(filled, _NO_SCORE, logits)
        return ops.sum(self._loss(targets, logits))

    def _of_drawn(
        self, drawn: SampledLogits, users: Tensor, targets: Tensor, recommender: Recommender
    ) -> Tensor:
        def vectors_of(items: Tensor) -> Tensor:
            return recommender.item_vectors_of(items, sparse_gradients=True)

        logits = drawn(users, targets, vectors_of=vectors_of)
        # Column 0 is the target's: item 1 of what is compared.
        return ops.sum(self._loss(ops.cast(targets > 0, "int32"), logits))


def next_item(
    num_items: int,
    negatives: int | None,
    negative_distribution: str,
    label_smoothing: float,
    seed: int,
    dtype,
) -> NextItem:
    """The objective from plain values; `seed` is that of the model."""
    drawn = None
    if negatives:
        drawn = SampledLogits(
            num_items,
            negatives,
            negative_distribution,
            derive_seed(seed, "negatives"),
            dtype=dtype,
            name="sampled_logits",
        )
    return NextItem(label_smoothing, drawn, dtype=dtype, name=NEXT_ITEM)
