"""Scores and codes of item pairs in NumPy, for Beam workers.

`kdsr_tf.ops.correlation` gives the same scores in a model. This module imports NumPy only.

Every correlation is built from per-domain parts, so the score of a pair and its
correlation vector cost one pass over the two vectors.

Reference:
    - [Knowledge Distillation for Sequential Recommendation with modalities
      (KDSR), arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
"""

from __future__ import annotations

import numpy as np

from kdsr_tf.rules import check_correlation
from kdsr_tf.schema import pair_positions

_ROWS_PER_CHUNK = 16_384


def correlation(first: np.ndarray, second: np.ndarray, kind: str = "cosine") -> np.ndarray:
    """The holistic score r = ξ(first, second) over the last axis; see `correlation_vectors`.

    Example:
        >>> float(correlation(np.array([3.0, 4.0]), np.array([0.0, 0.0]), "euclidean"))
        5.0
    """
    return correlation_vectors(first, second, 1, kind)[..., 0]


def correlation_vectors(
    first: np.ndarray, second: np.ndarray, num_domains: int, kind: str = "cosine"
) -> np.ndarray:
    """ξ of each pair of sub-vectors: the correlation vector of a pair.

    A zero vector has cosine 0 with everything.

    Args:
        first: Floats `(..., dim)`.
        second: Floats `(..., dim)`, broadcast against `first`.
        num_domains: Sub-vectors D; divides `dim`.
        kind: `cosine`, `dot`, `euclidean` or `manhattan`.

    Returns:
        Floats `(..., num_domains)`.

    Raises:
        ValueError: for another kind.
    """
    check_correlation(kind)
    first, second = split_domains(first, num_domains), split_domains(second, num_domains)
    if kind == "manhattan":
        return np.abs(first - second).sum(-1)
    if kind == "euclidean":
        return np.sqrt(np.square(first - second).sum(-1))
    dots = np.einsum("...k,...k->...", first, second)
    if kind == "dot":
        return dots
    return _divide(dots, np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1))


def window_correlations(
    vectors: np.ndarray, num_domains: int, kind: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and correlation vectors of all position pairs of equally long windows.

    Inner products are matrix products; distances are taken pair by pair, where
    the expanded square would cancel.

    Args:
        vectors: float32 `(windows, length, dim)`.
        num_domains: Sub-vectors D; divides `dim`.
        kind: `cosine`, `dot`, `euclidean` or `manhattan`.

    Returns:
        Scores `(windows, pairs)` and correlation vectors
        `(windows, pairs, num_domains)`, pairs in the packed order of
        `kdsr_tf.schema.pair_positions`.
    """
    check_correlation(kind)
    parts = split_domains(vectors, num_domains)
    i, j = pair_positions(vectors.shape[1])
    if kind in ("euclidean", "manhattan"):
        difference = parts[:, i] - parts[:, j]
        if kind == "manhattan":
            profile = np.abs(difference, out=difference).sum(-1)
            return profile.sum(-1), profile
        squares = np.einsum("...k,...k->...", difference, difference)
        return np.sqrt(squares.sum(-1)), np.sqrt(squares)
    by_domain = np.ascontiguousarray(parts.swapaxes(1, 2))
    gram = np.matmul(by_domain, by_domain.swapaxes(2, 3)).transpose(2, 3, 0, 1)
    dots = gram[i, j].swapaxes(0, 1)
    scores = dots.sum(-1)
    if kind == "dot":
        return scores, dots
    squares = np.einsum("...k,...k->...", parts, parts)
    norms, norm = np.sqrt(squares), np.sqrt(squares.sum(-1))
    return (
        _divide(scores, norm[:, i] * norm[:, j]),
        _divide(dots, norms[:, i] * norms[:, j]),
    )


def nearest_codes(vectors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Index of the nearest codeword (Euclidean); the lower index wins a tie.

    Args:
        vectors: Floats `(..., num_domains)`.
        codebook: Floats `(num_codes, num_domains)`.

    Returns:
        int32 `(...)` in `0..num_codes - 1`.

    Example:
        >>> nearest_codes(np.array([[0.9], [0.2]]), np.array([[0.0], [1.0]])).tolist()
        [1, 0]
    """
    flat = vectors.reshape(-1, vectors.shape[-1])
    # |v - c|^2 without |v|^2, which no codeword changes.
    weights = -2.0 * codebook.T
    offsets = np.square(codebook).sum(-1)
    codes = np.empty(len(flat), np.int32)
    for start in range(0, len(flat), _ROWS_PER_CHUNK):
        rows = slice(start, start + _ROWS_PER_CHUNK)
        distances = flat[rows] @ weights
        distances += offsets
        codes[rows] = distances.argmin(-1)
    return codes.reshape(vectors.shape[:-1])


def split_domains(vectors: np.ndarray, num_domains: int) -> np.ndarray:
    """View `(..., dim)` as `(..., num_domains, dim / num_domains)`."""
    dim = vectors.shape[-1]
    if num_domains < 1 or dim % num_domains:
        raise ValueError(
            f"`num_domains` must divide the vectors' size. Received: "
            f"num_domains={num_domains}, size={dim}."
        )
    return vectors.reshape(*vectors.shape[:-1], num_domains, dim // num_domains)


def _divide(values: np.ndarray, norms: np.ndarray) -> np.ndarray:
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
