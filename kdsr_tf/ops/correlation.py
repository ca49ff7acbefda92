"""The correlation function ξ between item vectors, with finite gradients.

`kdsr_tf.teacher.pair_correlations` holds the NumPy twins that write the teacher's records;
both give the same numbers.

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


def correlation_vectors(
    first: Tensor, second: Tensor, num_domains: int, kind: str = "cosine"
) -> Tensor:
    """ξ of each pair of sub-vectors: the correlation vector of a pair (Eq. 4).

    Args:
        first: Floats `(..., dim)`.
        second: Floats `(..., dim)`, broadcast against `first`.
        num_domains: Sub-vectors D; divides `dim`.
        kind: Key of `CORRELATIONS`.

    Returns:
        Floats `(..., num_domains)`.

    Raises:
        ValueError: for another kind, or if `num_domains` does not divide `dim`.
    """
    return correlation(
        _split_domains(first, num_domains), _split_domains(second, num_domains), kind
    )


def _split_domains(vectors: Tensor, num_domains: int) -> Tensor:
    *batch, dim = ops.shape(vectors)
    if num_domains < 1 or dim % num_domains:
        raise ValueError(
            "`num_domains` must divide the vectors' size. Received: "
            f"num_domains={num_domains}, size={dim}."
        )
    return ops.reshape(vectors, (*batch, num_domains, dim // num_domains))


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
