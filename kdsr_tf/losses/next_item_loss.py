"""The recommendation loss."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.ops.kernels.cross_entropy import cross_entropy
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class NextItemLoss(keras.losses.Loss):
    """Softmax cross-entropy of the next item over all items, L_RS.

    The mean over positions that have a target; positions without one (target 0)
    give neither loss nor gradient. Padding has no logit: column k of the logits
    belongs to item k + 1.

    With label smoothing s the target has probability 1 - s + s/N and every other item
    s/N, where the loss wants 1 and 0 without it.

    Args:
        label_smoothing: s, in [0, 1).
        reduction: Over positions, as in `keras.losses.Loss`; the default is the
            mean over positions with a target.
        name: Name of the loss.

    Call arguments:
        y_true: Ints `(...)`: the next item `1..num_items`, or 0.
        y_pred: Logits `(..., num_items)`.

    Example:
        >>> import numpy as np
        >>> loss = NextItemLoss()
        >>> round(float(loss(np.array([3, 0]), np.zeros((2, 4)))), 4)
        1.3863

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.3.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str = "mean_with_sample_weight",
        name: str = "next_item_loss",
        **kwargs,
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing}."
            )
        self.label_smoothing = label_smoothing

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        has_target = ops.cast(ops.convert_to_tensor(y_true) > 0, self.dtype)
        if sample_weight is not None:
            has_target = has_target * ops.cast(sample_weight, self.dtype)
        return super().__call__(y_true, y_pred, sample_weight=has_target)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        columns = ops.maximum(ops.cast(y_true, "int32") - 1, 0)
        losses = cross_entropy(y_pred, columns)
        if not self.label_smoothing:
            return losses
        own = ops.take_along_axis(y_pred, columns[..., None], axis=-1)[..., 0]
        return losses + self.label_smoothing * (own - ops.mean(y_pred, axis=-1))

    def get_config(self) -> dict:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
