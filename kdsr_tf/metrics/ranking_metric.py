"""Ranks of the true items among all items."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kdsr_tf.schema import HIT_RATE, RECIPROCAL_RANK
from kdsr_tf.types import Tensor


def pessimistic_ranks(targets: Tensor, logits: Tensor) -> Tensor:
    """Rank of each target, counting every item that scores no less than it.

    A model that gives all items one score thus ranks its target last. A target whose own
    score is NaN has the largest int32, so that no cutoff counts it.

    Args:
        targets: Ints `(count,)`: items `1..num_items`, or 0 for none.
        logits: Floats `(count, num_items)`; column k belongs to item k + 1.

    Returns:
        int32 `(count,)`, from 1; meaningless where the target is 0.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[0.3, 0.9, 0.3]])
        >>> int(pessimistic_ranks(np.array([1]), logits)[0])
        3
    """
    columns = ops.maximum(ops.cast(targets, "int32") - 1, 0)[:, None]
    own = ops.take_along_axis(logits, columns, axis=1)
    ranks = ops.sum(ops.cast(ops.logical_not(ops.less(logits, own)), "int32"), axis=1)
    return ops.where(ops.isnan(own[:, 0]), np.iinfo("int32").max, ranks)


class RankingMetric(keras.metrics.Metric):
    """The mean over users' targets of a value that follows from the target's rank.

    A subclass gives `value(ranks)`. Results are fractions, not percentages.

    Args:
        k: Largest rank that counts, > 0.
        name: Name of the metric; None is such as `hr_20`, of its kind and `k`.

    Raises:
        ValueError: if `k` is below 1.
    """

    kind: str

    def __init__(self, k: int, name: str | None = None, **kwargs):
        super().__init__(name=name or f"{self.kind}_{k}", **kwargs)
        if k < 1:
            raise ValueError(f"`k` must be > 0. Received: k={k}.")
        self.k = k
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def value(self, ranks: Tensor) -> Tensor:
        """Value of each rank, floats of the shape of `ranks`."""
        raise NotImplementedError

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Add targets `(count,)` with their logits `(count, num_items)`; target 0 is none."""
        y_true = ops.convert_to_tensor(y_true)
        self.update_ranks(y_true, pessimistic_ranks(y_true, y_pred), sample_weight)

    def update_ranks(
        self, y_true: Tensor, ranks: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Add targets `(count,)` whose ranks are known."""
        weights = ops.cast(ops.convert_to_tensor(y_true) > 0, self.dtype)
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, self.dtype)
        values = ops.cast(self.value(ranks), self.dtype)
        self.total.assign_add(ops.sum(weights * values))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.total, self.count)

    def get_config(self) -> dict:
        return {**super().get_config(), "k": self.k}


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

    kind = HIT_RATE

    def value(self, ranks: Tensor) -> Tensor:
        return ops.cast(ranks <= self.k, self.dtype)


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

    kind = RECIPROCAL_RANK

    def value(self, ranks: Tensor) -> Tensor:
        ranks = ops.cast(ranks, self.dtype)
        return ops.where(ranks <= self.k, 1.0 / ranks, ops.zeros_like(ranks))
