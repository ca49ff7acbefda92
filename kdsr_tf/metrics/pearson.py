"""Agreement of two score lists."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.ops.replicas import sum_over_replicas
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Pearson(keras.metrics.Metric):
    """Pearson correlation over everything seen since the last reset.

    Unlike `keras.metrics.PearsonCorrelation`, which averages the correlations of
    rows, all values form one sample. The state is sums, so replicas add up; they are
    sums of differences from the means of the first batch, which keeps float32 digits
    where values lie close together (scores of 0.9 ± 0.001). It is 0 where one side has
    no variance.

    Args:
        name: Name of the metric.

    Example:
        >>> import numpy as np
        >>> metric = Pearson()
        >>> metric.update_state(np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]]))
        >>> metric.update_state(np.array([[3.0, 9.0]]), np.array([[2.0, 7.0]]), np.array([[1, 0]]))
        >>> round(float(metric.result()), 4)
        1.0
    """

    def __init__(self, name: str = "pearson", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sums = self.add_variable((6,), "zeros", name="sums")
        # The same on all replicas, whatever Keras makes of copies when it reads them.
        self.shift = self.add_variable(
            (2,), "zeros", aggregation="only_first_replica", name="shift"
        )

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Add values of equal shape; `sample_weight` of that shape leaves out zeros."""
        x, y = ops.cast(y_true, self.dtype), ops.cast(y_pred, self.dtype)
        weight = ops.ones_like(x) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        first = [ops.sum(weight), ops.sum(weight * x), ops.sum(weight * y)]
        count, *totals = (sum_over_replicas(value) for value in first)
        means = ops.stack(totals) / ops.maximum(count, 1.0)
        seen = sum_over_replicas(self.sums[0])
        self.shift.assign(ops.where(seen > 0, ops.convert_to_tensor(self.shift), means))
        x, y = x - self.shift[0], y - self.shift[1]
        terms = (ops.ones_like(x), x, y, x * x, y * y, x * y)
        self.sums.assign_add(ops.stack([ops.sum(weight * term) for term in terms]))

    def result(self) -> Tensor:
        count, x, y, xx, yy, xy = ops.unstack(ops.convert_to_tensor(self.sums), 6)
        covariance = count * xy - x * y
        variances = ops.maximum(count * xx - x * x, 0.0), ops.maximum(count * yy - y * y, 0.0)
        return ops.divide_no_nan(covariance, ops.sqrt(variances[0]) * ops.sqrt(variances[1]))
