"""The dissected loss: the student's correlation codes against the teacher's."""

from __future__ import annotations

import keras

from kdsr_tf.ops.kernels.cross_entropy import cross_entropy
from kdsr_tf.ops.pooling import weighted_mean
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class CodeLoss(keras.losses.Loss):
    """Cross-entropy of predicted correlation codes, the mean over a window's pairs (Eq. 5).

    Each valid pair i < j counts once; the paper's 1/N² counts both orders (whose
    codes and logits are equal) and the diagonal, where every |e_i - e_i| is 0 and
    the loss a constant log(num_codes). The loss of a window without valid pairs is 0;
    `reduction` applies to windows. Pairs of weight 0 give neither loss nor gradient.

    Args:
        reduction: Over windows, as in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Two arrays `(batch, pairs)`: the codes `0..num_codes - 1`, and the
            weight of each pair: 1 where valid, else 0.
        y_pred: Logits `(batch, pairs, num_codes)`.

    Example:
        >>> import numpy as np
        >>> codes, valid = np.array([[1, 0]]), np.array([[1.0, 0.0]])
        >>> round(float(CodeLoss()((codes, valid), np.zeros((1, 2, 4)))), 4)
        1.3863

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 4 and 5.
    """

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "code_loss", **kwargs):
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        codes, weights = y_true
        return weighted_mean(cross_entropy(y_pred, codes), weights)
