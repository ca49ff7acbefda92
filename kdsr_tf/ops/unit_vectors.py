"""Directions, with finite gradients."""

from __future__ import annotations

from keras import ops

from kdsr_tf.types import Tensor

_SMALLEST_SQUARE = 1e-24
"""Squared norms below this count as 0, as in `kdsr_tf.ops.correlation`."""


def unit_vectors(vectors: Tensor, length: float = 1.0) -> Tensor:
    """Vectors of one length, > 0, along the last axis, in float32.

    A zero vector stays one and passes no gradient. (`keras.ops.normalize` gives NaN for it
    in float16, and a gradient of NaN under XLA.)

    Example:
        >>> import numpy as np
        >>> units = unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]]))
        >>> [[round(float(x), 3) for x in unit] for unit in units]
        [[0.6, 0.8], [0.0, 0.0]]
    """

    vectors = ops.cast(vectors, "float32")
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    nonzero = squares > _SMALLEST_SQUARE
    # The square root has an infinite slope at 0, and `where` around it would turn that into NaN.
    inverse = ops.rsqrt(ops.where(nonzero, squares, 1.0))
    return vectors * ops.where(nonzero, length * inverse, 0.0)
