"""The holistic loss: the student's correlation scores against the teacher's."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.ops.pooling import weighted_mean
from kdsr_tf.types import Tensor

FORMS = ("paper", "frobenius")
MATCHES = ("soft", "hard")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class ScoreLoss(keras.losses.Loss):
    """Distance between teacher scores r and student scores r̂ of a window's pairs (Eq. 3).

    `paper`: the mean over valid pairs of (σ(r/τ) - σ(r̂/τ))². For cosine it is at
    most 0.103 with τ = 1.5, so its gradient is small. `frobenius`: ‖(r̂ - r)/τ‖_F
    of the window's symmetric matrix with a zero diagonal (the authors' code): a
    norm per window, not a mean over pairs. `match="hard"` leaves out τ and σ.

    The paper divides by N², which counts both orders of a pair, the diagonal (whose
    distance is 0) and pairs that nothing is known of; here each valid pair i < j
    counts once, so that all pairs of N items give N / (N - 1) times the paper's value.
    `frobenius` sums both orders, as the authors do, and takes no mean: it needs all
    pairs of a window. The loss of a window without valid pairs is 0; `reduction`
    applies to windows. Pairs of weight 0 give neither loss nor gradient.

    Args:
        form: `paper` or `frobenius`.
        match: `soft` or `hard`.
        temperature: τ, > 0.
        reduction: Over windows, as in `keras.losses.Loss`.
        name: Name of the loss.

    Call arguments:
        y_true: Two arrays `(batch, pairs)`: r, and the weight of each pair: 1 where
            valid, else 0.
        y_pred: r̂, floats `(batch, pairs)`.

    Raises:
        ValueError: for another form or match, or a temperature that is not > 0.

    Example:
        >>> import numpy as np
        >>> loss = ScoreLoss(match="hard")
        >>> valid = np.array([[1.0, 1.0, 0.0]])
        >>> float(loss((np.array([[1.0, 0.0, 9.0]]), valid), np.array([[0.5, 0.5, 0.0]])))
        0.25

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 2 and 3.
    """

    def __init__(
        self,
        form: str = "paper",
        match: str = "soft",
        temperature: float = 1.5,
        reduction: str = "sum_over_batch_size",
        name: str = "score_loss",
        **kwargs,
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {', '.join(FORMS)}. Received: form={form!r}.")
        if match not in MATCHES:
            raise ValueError(
                f"`match` must be one of {', '.join(MATCHES)}. Received: match={match!r}."
            )
        if not temperature > 0:
            raise ValueError(f"`temperature` must be > 0. Received: temperature={temperature}.")
        self.form = form
        self.match = match
        self.temperature = temperature

    def call(self, y_true: tuple[Tensor, Tensor], y_pred: Tensor) -> Tensor:
        scores, weights = y_true
        if self.match == "soft":
            scores, y_pred = scores / self.temperature, y_pred / self.temperature
            if self.form == "paper":
                scores, y_pred = ops.sigmoid(scores), ops.sigmoid(y_pred)
        squares = ops.square(scores - y_pred)
        if self.form == "paper":
            return weighted_mean(squares, weights)
        total = 2.0 * ops.sum(ops.where(weights > 0, weights * squares, 0.0), axis=-1)
        # The root has an infinite slope at 0, where the loss is at its minimum.
        apart = total > 1e-12
        return ops.where(apart, ops.sqrt(ops.where(apart, total, 1.0)), 0.0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "form": self.form,
            "match": self.match,
            "temperature": self.temperature,
        }
