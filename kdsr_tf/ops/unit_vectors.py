"""Directions, with finite gradients."""

from __future__ import annotations

from keras import ops

from kdsr_tf.types import Tensor

_SMALLEST_SQUARE = 1e-24
"""Squared norms below this count as 0, as in `kdsr_tf.ops.correlation`."""


def unit_vectors(vectors: Tensor, length: float = 1.0) -> Tensor:
    """Vectors of one length, along the last axis.

    A zero vector stays one and passes no gradient. (`keras.ops.normalize` gives NaN for it
    in float16, and a gradient of NaN under XLA.) The gradient is written out: found by the
    backend it reads and writes arrays as large as the vectors twice as often.

    Args:
        vectors: Floats `(..., dim)`.
        length: Of the results, > 0.

    Returns:
        float32 `(..., dim)`.

    Example:
        >>> import numpy as np
        >>> units = unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]]))
        >>> [[round(float(x), 3) for x in unit] for unit in units]
        [[0.6, 0.8], [0.0, 0.0]]
    """

    @ops.custom_gradient
    def scaled(vectors: Tensor):
        squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        nonzero = squares > _SMALLEST_SQUARE
        factors = ops.where(nonzero, length * ops.rsqrt(ops.where(nonzero, squares, 1.0)), 0.0)
        results = vectors * factors

        def gradient(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            along = ops.sum(upstream * results, axis=-1, keepdims=True)
            return factors * (upstream - results * (along / length**2))

        return results, gradient

    return scaled(ops.cast(vectors, "float32"))
