"""HR@k."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.metrics.ranking_metric import RankingMetric
from kdsr_tf.schema import HIT_RATE
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class HitRate(RankingMetric):
    """HR@k: the share of targets ranked among the first k.

    Args:
        k: Length of the recommended list, > 0.
        name: Name of the metric; None is `hr_{k}`.

    Example:
        >>> import numpy as np
        >>> metric = HitRate(k=1)
        >>> metric.update_state(np.array([1, 2]), np.array([[0.9, 0.1], [0.9, 0.1]]))
        >>> float(metric.result())
        0.5
    """

    def __init__(self, k: int, name: str | None = None, **kwargs):
        super().__init__(k, name or f"{HIT_RATE}_{k}", **kwargs)

    def value(self, ranks: Tensor) -> Tensor:
        return ops.cast(ranks <= self.k, self.dtype)
