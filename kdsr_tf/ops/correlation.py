"""The correlation function ξ between item vectors, and unit vectors, with finite gradients.

`kdsr_tf.teacher.pair_correlations` writes the teacher's records with NumPy; both give the same
numbers.

Reference:
    - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
"""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.rules import check_correlation
from kdsr_tf.types import Tensor

_SMALLEST_SQUARE = 1e-24
"""Squared norms below this count as 0: beyond it a gradient leaves float32."""


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return _dot(first, second) * _inverse_norm(first) * _inverse_norm(second)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return ops.sum(first * second, axis=-1)


def _euclidean(first: Tensor, second: Tensor) -> Tensor:
    squares = ops.sum(ops.square(first - second), axis=-1)
    # sqrt has an infinite slope at 0, and `where` alone would turn it into NaN.
    apart = squares > _SMALLEST_SQUARE
    root = ops.sqrt(ops.where(apart, squares, ops.ones_like(squares)))
    return ops.where(apart, root, ops.zeros_like(root))


def _manhattan(first: Tensor, second: Tensor) -> Tensor:
    return ops.sum(ops.abs(first - second), axis=-1)


CORRELATIONS = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
"""Kinds of ξ over the last axis. Distances are positive: small means alike."""


def correlation(first: Tensor, second: Tensor, kind: str = "cosine") -> Tensor:
    """The holistic score r = ξ(first, second) over the last axis (Eq. 2).

    Gradients are finite everywhere: a zero vector has cosine 0, and a distance
    of 0 passes no gradient. Half-precision inputs are computed in float32.

    Args:
        first: Floats `(..., dim)`.
        second: Floats `(..., dim)`, broadcast against `first`.
        kind: Key of `CORRELATIONS`.

    Returns:
        Floats `(...)`.

    Raises:
        ValueError: for another kind.

    Example:
        >>> import numpy as np
        >>> float(correlation(np.ones((1, 4)), np.ones((1, 4)), "dot")[0])
        4.0
    """
    check_correlation(kind)
    return CORRELATIONS[kind](_at_least_float32(first), _at_least_float32(second))


def _inverse_norm(vectors: Tensor) -> Tensor:
    squares = ops.sum(ops.square(vectors), axis=-1)
    nonzero = squares > _SMALLEST_SQUARE
    inverse = ops.rsqrt(ops.where(nonzero, squares, ops.ones_like(squares)))
    return ops.where(nonzero, inverse, ops.zeros_like(inverse))


def _at_least_float32(vectors: Tensor) -> Tensor:
    vectors = ops.convert_to_tensor(vectors)
    if keras.backend.standardize_dtype(vectors.dtype) in ("float16", "bfloat16"):
        return ops.cast(vectors, "float32")
    return vectors


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
