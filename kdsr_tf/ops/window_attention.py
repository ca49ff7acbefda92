"""Causal attention within the windows of a batch, with a gradient that is written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import ops

from kdsr_tf.ops.softmax import softmax
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.types import Tensor


def num_weights(windows: WindowGroups, heads: int) -> Tensor | int:
    """How many weights `window_attention` has."""
    return heads * sum(batch * length * length for batch, length in windows.shapes)


def window_attention(
    given: Sequence[Tensor], windows: WindowGroups, heads: int, factors: Tensor | None = None
) -> Tensor:
    """What each row collects from the rows of its window up to itself.

    With queries and keys of one or more sources s, each head is
    softmax(Σ_s Q_s K_sᵀ / √size + mask) V. The gradient is written out: found by the backend,
    it would undo every step of moving heads and windows apart, where here rows are read once
    in each direction, and softmax and factors go back in four operations.

    Args:
        given: Floats `(rows, parts * heads * size)`, the heads of each part side by side: of
            every source queries and keys; the first ends with the values, or holds nothing
            else.
        windows: Which rows are one sequence.
        heads: Attention heads, > 0.
        factors: What weights are multiplied with after the softmax, floats
            `(num_weights,)`; None leaves them.

    Returns:
        Floats `(rows, heads * size)`.

    Example:
        >>> import numpy as np
        >>> windows = WindowGroups(np.array([[5, 7, 0], [3, 0, 0]]), max_length=3, split=True)
        >>> rows = np.ones((4, 6), "float32")  # one of padding, then three of items
        >>> tuple(window_attention([rows], windows, heads=1).shape)
        (4, 2)

    Reference:
        - [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
    """
    # Of the first 3 or 1 parts, of every other 2.
    width = given[0].shape[-1] // 3 if len(given) == 1 else given[1].shape[-1] // 2
    numbers = [heads * (value.shape[-1] // width) for value in given]
    factors_of_groups = _factors_of_groups(factors, windows, heads)

    @ops.custom_gradient
    def attend(*given: Tensor):
        parts = [windows.split_parts(*both) for both in zip(given, numbers, strict=True)]
        by_group = zip(zip(*parts, strict=True), factors_of_groups, strict=True)
        groups = [_Group(parts, heads, factors) for parts, factors in by_group]

        def gradient(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            slopes = zip(groups, windows.split_parts(upstream, heads), strict=True)
            back = zip(*(group.gradients(slope) for group, slope in slopes), strict=True)
            return tuple(windows.join_parts(parts) for parts in back)

        return windows.join_parts([group.outputs() for group in groups]), gradient

    return attend(*given)


class _Group:
    """Attention of the windows of one length.

    Args:
        given: `(parts * heads, windows, length, size)` each; see `window_attention`.
        heads: Attention heads.
        factors: Of the weights, `(heads, windows, length, length)`, or None.
    """

    def __init__(self, given: Sequence[Tensor], heads: int, factors: Tensor | None) -> None:
        self._value = given[0][-heads:]
        self._scale = 1.0 / math.sqrt(self._value.shape[-1])
        # Scaled before the product, which could be too large for float16.
        self._compared = [
            (part[:heads] * self._scale, part[heads : 2 * heads]) if part.shape[0] > heads else ()
            for part in given
        ]
        pairs = [pair for pair in self._compared if pair]
        scores = sum(ops.matmul(query, _turned(key)) for query, key in pairs)
        self._weights = softmax(scores + _mask(scores))
        self._used = self._weights if factors is None else self._weights * factors

    def outputs(self) -> Tensor:
        """`(heads, windows, length, size)`."""
        return ops.matmul(self._used, self._value)

    def gradients(self, upstream: Tensor) -> list[Tensor]:
        """Of all that was given."""
        # P the weights, F the factors: P dP is (P F) d(P F), both of which are at hand.
        shares = self._used * ops.matmul(upstream, _turned(self._value))
        slope = shares - self._weights * ops.sum(shares, axis=-1, keepdims=True)
        back = [
            [ops.matmul(slope, pair[1]) * self._scale, ops.matmul(_turned(slope), pair[0])]
            if pair
            else []
            for pair in self._compared
        ]
        back[0].append(ops.matmul(_turned(self._used), upstream))
        return [ops.concatenate(parts) for parts in back]


def _factors_of_groups(
    factors: Tensor | None, windows: WindowGroups, heads: int
) -> list[Tensor | None]:
    """The factors of each group, `(heads, windows, length, length)`."""
    if factors is None:
        return [None] * len(windows.shapes)
    groups, start = [], 0
    for batch, length in windows.shapes:
        size = heads * batch * length * length
        part = ops.slice(factors, (start,), (size,))
        groups.append(ops.reshape(part, (heads, batch, length, length)))
        start = start + size
    return groups


def _mask(scores: Tensor) -> Tensor:
    """What to add to scores `(..., length, length)` so that no row looks ahead."""
    position = ops.arange(ops.shape(scores)[-1], dtype="int32")
    # -3e4 is finite in float16 and leaves no weight after the softmax.
    return ops.cast(position[None, :] > position[:, None], scores.dtype) * -3e4


def _turned(values: Tensor) -> Tensor:
    return ops.transpose(values, (0, 1, 3, 2))
