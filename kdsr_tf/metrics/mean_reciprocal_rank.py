"""MRR@k."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.metrics.ranking_metric import RankingMetric
from kdsr_tf.schema import RECIPROCAL_RANK
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class MeanReciprocalRank(RankingMetric):
    """MRR@k: the mean of 1/rank, 0 beyond rank k.

    Args:
        k: Length of the recommended list, > 0.
        name: Name of the metric; None is `mrr_{k}`.

    Example:
        >>> import numpy as np
        >>> metric = MeanReciprocalRank(k=2)
        >>> metric.update_state(np.array([1, 2]), np.array([[0.9, 0.1], [0.9, 0.1]]))
        >>> float(metric.result())
        0.75
    """

    def __init__(self, k: int, name: str | None = None, **kwargs):
        super().__init__(k, name or f"{RECIPROCAL_RANK}_{k}", **kwargs)

    def value(self, ranks: Tensor) -> Tensor:
        ranks = ops.cast(ranks, self.dtype)
        return ops.where(ranks <= self.k, 1.0 / ranks, ops.zeros_like(ranks))
