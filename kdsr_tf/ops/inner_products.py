"""Inner products of a few rows with a few others, at every position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras import ops

from kdsr_tf.types import Tensor


def inner_products(
    left: Sequence[Tensor], right: Sequence[Tensor], training: bool | None = None
) -> Tensor:
    """l_sᵀ r_t of every s and t, position by position.

    Element by element: on a CPU a product of two matrices of a few rows costs more at every
    position, and the rows would have to be laid out side by side for it and back.

    Args:
        left: l, floats `(..., dim)` each.
        right: r, likewise.
        training: Whether a gradient will be taken.

    Returns:
        Floats `(..., number of left, number of right)`.

    Example:
        >>> import numpy as np
        >>> one, other = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
        >>> np.asarray(inner_products([one, other], [one, other])).tolist()
        [[[5.0, 11.0], [11.0, 25.0]]]
    """
    number = len(left)

    def products(*rows: Tensor) -> tuple[Tensor, Callable]:
        left, right = rows[:number], rows[number:]
        found = ops.stack(
            [ops.stack([ops.sum(one * other, axis=-1) for other in right], -1) for one in left], -2
        )

        def gradients(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            slopes = [
                [upstream[..., s, t : t + 1] for t in range(len(right))] for s in range(number)
            ]
            by_left = [sum(map(ops.multiply, slope, right)) for slope in slopes]
            by_right = [sum(map(ops.multiply, slope, left)) for slope in zip(*slopes, strict=True)]
            return *by_left, *by_right

        return found, gradients

    if training:
        return ops.custom_gradient(products)(*left, *right)
    return products(*left, *right)[0]
