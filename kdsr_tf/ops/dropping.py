"""Random factors of dropout."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.types import Tensor

STEPS = 2**11
"""Rates are multiples of one over this: a float32 in [0, 1) holds two such numbers."""


def dropout_factors(count: int | Tensor, rate: float, seed: keras.random.SeedGenerator) -> Tensor:
    """0 for what is dropped, and for the rest what keeps the mean.

    Random numbers are most of the cost of dropout on a CPU: one serves two factors.

    Args:
        count: Of factors.
        rate: Share that is dropped, in (0, 1); the nearest multiple of 1 / `STEPS` that is
            in (0, 1) is meant.
        seed: Generator that advances with every draw.

    Returns:
        float32 `(count,)`.

    Example:
        >>> import numpy as np
        >>> factors = dropout_factors(6, 0.5, keras.random.SeedGenerator(0))
        >>> set(np.asarray(factors).tolist()) <= {0.0, 2.0}
        True
    """
    dropped = min(max(round(rate * STEPS), 1), STEPS - 1)
    share = dropped / STEPS
    # Of the 23 random bits the first 11 come before the point, and the others behind it.
    drawn = keras.random.uniform(((count + 1) // 2,), dtype="float32", seed=seed) * STEPS
    first = ops.floor(drawn)
    kept = ops.concatenate([first >= dropped, drawn - first >= share])[:count]
    return ops.cast(kept, "float32") * (1.0 / (1.0 - share))
