"""Predicting the next item among those of the batch."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kdsr_tf.models.recommender import Recommender
from kdsr_tf.objectives.next_item import NextItem
from kdsr_tf.objectives.objective import Step
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.replicas import sum_over_replicas
from kdsr_tf.schema import ITEMS, PAD, TARGET
from kdsr_tf.types import Tensor

_NO_SCORE = -1e9


@keras.saving.register_keras_serializable(package="kdsr_tf")
class InBatchNextItem(NextItem):
    """Cross-entropy of the next item against the other items of the batch, corrected for how
    often they come: term `next_item`, a mean over targets.

    With p_j the share of item j among the train interactions and c_j the slots of the batch
    that hold it, the loss of target y after history P in a window with items S is

        -log exp(P·e_y - log p_y) / (exp(P·e_y - log p_y) + Σ_j c_j exp(P·e_j - log p_j))

    over the distinct items j of the batch that are not in S. The slots of a window are its
    items and its last target, so that no item of a user, of the past or of the future, is a
    negative of it. The authors add up all slots instead; the value is the same. On several
    replicas the items and slots are those of the whole batch.

    Items that are computed cost one computation each: so it takes `ComputedItems`. Tests compare
    with all items, without the correction, as `NextItem` does.

    Args:
        num_items: Items N, > 0.

    Raises:
        ValueError: from `check`, for items that are looked up.

    Reference:
        - [IISAN, arXiv 2404.02059](https://arxiv.org/abs/2404.02059).
    """

    def __init__(self, num_items: int, **kwargs):
        super().__init__(**kwargs)
        self.num_items = num_items
        self.reads_catalogue = False

    def build(self, input_shape=None) -> None:
        # Not their logarithms: what a model holds must be finite to be saved.
        self._shares = self.add_weight(
            shape=(self.num_items + 1,),
            dtype="float32",
            initializer="ones",
            trainable=False,
            autocast=False,
            name="shares",
        )
        super().build()

    def check(self, recommender: Recommender) -> None:
        if not recommender.item_encoder.computed:
            raise ValueError(
                "`InBatchNextItem` compares items that are computed with those of their batch. "
                f"Received: {type(recommender.item_encoder).__name__}, which looks vectors up. "
                "Take `NextItem`, which compares with all items or with drawn ones."
            )

    def set_popularity(self, counts: np.ndarray) -> None:
        """Say how often items come in training; without it all count as equally frequent.

        A batch that holds an item which never comes has no finite loss, which stops the
        training with the name of the term. The correction would prefer it without limit.

        Args:
            counts: Train interactions of each item, `(num_items + 1,)`; row 0 is ignored.

        Raises:
            ValueError: for another shape, a negative or infinite count, or only zeros.
        """
        counts = np.array(counts, "float64")
        if counts.shape != (self.num_items + 1,):
            raise ValueError(
                f"`counts` must have shape ({self.num_items + 1},). Received: {counts.shape}."
            )
        counts[PAD] = 0
        if not np.isfinite(counts).all() or counts.min() < 0 or not counts.any():
            raise ValueError("`counts` must be >= 0 and finite, and one of them > 0.")
        shares = counts / counts.sum()
        shares[PAD] = 1.0
        self._shares.assign(shares)

    def get_config(self) -> dict:
        return {**keras.layers.Layer.get_config(self), "num_items": self.num_items}

    @classmethod
    def from_config(cls, config: dict) -> InBatchNextItem:
        return cls(**config)

    def _of_known(self, step: Step, recommender: Recommender) -> Tensor:
        known = step.known.catalogue(())[ITEMS]
        slots = _slots(step)
        counts = sum_over_replicas(ops.sum(slots, axis=0))[1:]
        # `NO_ITEM`, which fills a batch up, is in no slot.
        items = ops.where(known <= self.num_items, known, PAD)[1:]
        logits = recommender.logits(step.users, recommender.item_vectors(step.known))
        logits = ops.cast(logits, "float32")
        log_shares = ops.log(gather(self._shares, items))
        own = gather(slots > 0, step.rows)[:, 1:]
        negative = ops.logical_and(ops.logical_not(own), counts > 0)
        weights = ops.log(ops.maximum(counts, 1.0)) - log_shares
        others = ops.logsumexp(ops.where(negative, logits + weights, _NO_SCORE), axis=1)
        column = ops.maximum(step.known.rows_of(step.targets) - 1, 0)
        target = ops.take_along_axis(logits, column[:, None], axis=1)[:, 0]
        target = target - gather(log_shares, column)
        total = ops.logaddexp(others, target)
        real = step.targets > 0
        return ops.sum(ops.where(real, total - target, 0.0))


def _slots(step: Step) -> Tensor:
    """How many slots of each window hold each known item: floats `(windows, rows)`."""
    items, targets = step.inputs[ITEMS], step.inputs[TARGET]
    following = ops.pad(items[:, 1:], [[0, 0], [0, 1]])
    last = ops.logical_and(following == PAD, targets > 0)
    windows, known = ops.shape(items)[0], ops.shape(step.known.catalogue(())[ITEMS])[0]
    held = ops.concatenate([items, ops.where(last, targets, PAD)], axis=1)
    start = ops.arange(windows, dtype="int32")[:, None] * known
    at = ops.reshape(start + ops.cast(step.known.rows_of(held), "int32"), (-1,))
    count = ops.segment_sum(ops.ones(ops.shape(at), "float32"), at, num_segments=windows * known)
    return ops.reshape(count, (windows, known))
