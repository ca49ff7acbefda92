"""Inner products of a few rows with a few others, at every position."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from kdsr_tf.types import Tensor


def inner_products(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """l_sᵀ r_t of every s and t, position by position: `(..., number of left, number of right)`.

    Element by element: on a CPU a product of two matrices of a few rows costs more at every
    position, and the rows would have to be laid out side by side for it and back.

    Example:
        >>> import numpy as np
        >>> one, other = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
        >>> np.asarray(inner_products([one, other], [one, other])).tolist()
        [[[5.0, 11.0], [11.0, 25.0]]]
    """
    return ops.stack(
        [ops.stack([ops.sum(one * other, axis=-1) for other in right], -1) for one in left], -2
    )
