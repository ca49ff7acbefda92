"""Pairs of positions in a window: which count, which are drawn, how they are read.

Pairs follow the packed order of `kdsr_tf.schema.pair_positions`.
"""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.ops.correlation import correlation
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.schema import pair_positions
from kdsr_tf.types import Tensor

_SMALLEST_SQUARE = 1e-24
"""Squared norms below this count as 0, as in `kdsr_tf.ops.correlation`."""

Positions = tuple[Tensor, Tensor]
"""Positions i and j of pairs: `[pairs]` for every window, or `[batch, pairs]`."""


def packed_positions(length: int | Tensor, max_length: int) -> Positions:
    """Positions `(i, j)`, `i < j`, of all pairs of a window of `length` items.

    The pairs of a short window are a prefix of those of a long one, so `length`
    may be known at run time only.

    Args:
        length: Int, or a scalar int tensor.
        max_length: Largest possible `length`.

    Returns:
        Two int32 arrays `(length * (length - 1) / 2,)`.
    """
    if isinstance(length, int):
        return pair_positions(length)
    first, second = pair_positions(max_length)
    count = length * (length - 1) // 2
    return ops.convert_to_tensor(first)[:count], ops.convert_to_tensor(second)[:count]


def valid_pairs(items: Tensor, present: Tensor, positions: Positions) -> Tensor:
    """Whether a pair counts: two different items that both have the modality.

    Args:
        items: Ints `(batch, length)`, right-padded with 0.
        present: Bools or 0/1 `(batch, length)`.
        positions: Result of `packed_positions`.

    Returns:
        Bools `(batch, pairs)`.
    """
    first, second = positions
    usable = ops.where(
        ops.logical_and(real_positions(items), ops.cast(present, "bool")),
        items,
        ops.zeros_like(items),
    )
    left = ops.take(usable, first, axis=1)
    right = ops.take(usable, second, axis=1)
    both = ops.logical_and(left > 0, right > 0)
    return ops.logical_and(both, ops.not_equal(left, right))


def draw_pairs(valid: Tensor, count: int, seed: keras.random.SeedGenerator) -> Tensor:
    """Indices of `count` valid pairs of each window, without replacement.

    Every valid pair of a window is equally likely, so the mean over the drawn
    pairs is an unbiased estimate of the mean over all valid ones, and exact in a
    window with no more than `count` of them. There the remaining indices name
    invalid pairs: gather `valid` at them for their mask.

    Args:
        valid: Bools `(batch, pairs)`.
        count: Pairs to draw, > 0.
        seed: Generator that advances with every draw.

    Returns:
        int32 `(batch, min(count, pairs))`.
    """
    pairs = ops.shape(valid)[1]
    count = min(count, pairs) if isinstance(pairs, int) else ops.minimum(count, pairs)
    order = keras.random.uniform(ops.shape(valid), seed=seed)
    _, index = ops.top_k(ops.where(valid, order + 1.0, order), count)
    return ops.cast(index, "int32")


def pair_differences(states: Tensor, positions: Positions) -> Tensor:
    """State at i minus state at j, for each pair of positions.

    Pairs shared by all windows are one product with a matrix of 1 and -1, whose
    gradient is a product too instead of a scatter.

    Args:
        states: Floats `(batch, length, dim)`.
        positions: Of the pairs, `(pairs,)` or `(batch, pairs)`.

    Returns:
        Floats `(batch, pairs, dim)`.
    """
    first, second = positions
    batch, length, dim = ops.shape(states)
    if len(first.shape) == 1:
        place = ops.arange(length, dtype="int32")[None, :]
        plus = ops.cast(ops.equal(first[:, None], place), states.dtype)
        minus = ops.cast(ops.equal(second[:, None], place), states.dtype)
        return ops.matmul(plus - minus, states)
    starts = ops.arange(batch, dtype="int32")[:, None] * length
    flat = ops.reshape(states, (-1, dim))
    return ops.take(flat, starts + first, axis=0) - ops.take(flat, starts + second, axis=0)


def pair_correlation(states: Tensor, positions: Positions, kind: str) -> Tensor:
    """ξ of the states at each pair of positions.

    Cosine and dot read one matrix product per window, `length**2 * dim`
    multiplications, without a tensor of that size.

    Args:
        states: Floats `(batch, length, dim)`.
        positions: Of the pairs, `(pairs,)` or `(batch, pairs)`.
        kind: Key of `kdsr_tf.ops.correlation.CORRELATIONS`.

    Returns:
        Floats `(batch, pairs)`, at least float32.
    """
    if kind not in ("cosine", "dot"):
        differences = pair_differences(states, positions)
        return correlation(differences, ops.zeros_like(differences), kind)
    states = ops.cast(states, "float32")
    if kind == "cosine":
        squares = ops.sum(ops.square(states), axis=-1, keepdims=True)
        nonzero = squares > _SMALLEST_SQUARE
        inverse = ops.rsqrt(ops.where(nonzero, squares, ops.ones_like(squares)))
        states = ops.where(nonzero, states * inverse, ops.zeros_like(states))
    first, second = positions
    length = ops.shape(states)[1]
    gram = ops.matmul(states, ops.transpose(states, (0, 2, 1)))
    gram = ops.reshape(gram, (-1, length * length))
    index = second * length + first
    if len(index.shape) == 1:
        return ops.take(gram, index, axis=1)
    return ops.take_along_axis(gram, index, axis=1)
