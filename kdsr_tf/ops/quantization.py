"""Quantisation of correlation vectors to codes.

`kdsr_tf.teacher.pair_correlations.nearest_codes` is the NumPy twin.
"""

from __future__ import annotations

from keras import ops

from kdsr_tf.types import Tensor


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codeword, c = argmin_k |v - C_k| (Eq. 4).

    The lower index wins a tie. No gradient flows through a code.

    Args:
        vectors: Floats `(..., num_domains)`.
        codebook: Floats `(num_codes, num_domains)`.

    Returns:
        int32 `(...)` in `0..num_codes - 1`.

    Example:
        >>> import numpy as np
        >>> codes = nearest_codes(np.array([[0.9], [0.2]]), np.array([[0.0], [1.0]]))
        >>> [int(code) for code in codes]
        [1, 0]
    """
    # |v - c|^2 without |v|^2, which no codeword changes.
    codebook = ops.convert_to_tensor(codebook)
    distances = ops.sum(ops.square(codebook), axis=-1) - 2.0 * ops.matmul(
        vectors, ops.transpose(codebook)
    )
    return ops.cast(ops.argmin(distances, axis=-1), "int32")
