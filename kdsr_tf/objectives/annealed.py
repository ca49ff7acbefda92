"""Weights of terms that fade."""

from __future__ import annotations

import keras


def annealed(
    weight: float, final: float, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A weight of a term that changes linearly, then stays.

    Args:
        weight: Weight in the first step, >= 0.
        final: Weight in step `steps` and after, as a share of `weight`, >= 0.
        steps: Training steps, > 0.
    """
    return keras.optimizers.schedules.PolynomialDecay(weight, steps, final * weight, power=1.0)
