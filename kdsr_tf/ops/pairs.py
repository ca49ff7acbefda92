"""Pairs of positions in a window: which count, which are drawn, how they are read.

Pairs follow the packed order of `kdsr_tf.schema.pair_positions`. `items` are ints
`(batch, length)`, right-padded with 0; `present` says which have the modality, bools or 0/1
of the same shape; `states` are floats `(batch, length, dim)`.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

from kdsr_tf.ops.correlation import correlation, unit_vectors
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.schema import pair_positions
from kdsr_tf.types import Tensor

Positions = tuple[Tensor, Tensor]
"""Positions i and j of pairs: `[pairs]` for every window, or `[batch, pairs]`."""


class DrawnPairs(NamedTuple):
    """Pairs drawn from the real pairs of each window; see `draw_pairs`."""

    index: Tensor  # Packed indices, int32 `(batch, drawn)`
    # Whether an entry is a pair: a window with fewer pairs than are drawn leaves the rest empty.
    # Bools `(batch, drawn)`.
    real: Tensor
    stands_for: Tensor  # Real pairs of the window per drawn pair, floats `(batch,)`, >= 1


def packed_positions(length: int | Tensor, max_length: int) -> Positions:
    """Positions `(i, j)`, `i < j`, of all pairs of a window, int32 `(length * (length - 1) / 2,)`.

    The pairs of a short window are a prefix of those of a long one, so `length` may be a tensor
    that is known at run time only, and at most `max_length`.
    """
    if isinstance(length, int):
        return pair_positions(length)
    first, second = pair_positions(max_length)
    count = length * (length - 1) // 2
    return ops.convert_to_tensor(first)[:count], ops.convert_to_tensor(second)[:count]


def valid_pairs(items: Tensor, present: Tensor, positions: Positions) -> Tensor:
    """Whether a pair counts: two different items that both have the modality.

    Returns:
        Bools `(batch, pairs)`.
    """
    usable = _usable_items(items, present)
    left, right = (_take_pairs(usable, place) for place in positions)
    both = ops.logical_and(left > 0, right > 0)
    return ops.logical_and(both, ops.not_equal(left, right))


def count_valid_pairs(items: Tensor, present: Tensor) -> Tensor:
    """How many pairs of each window `valid_pairs` counts, floats `(batch,)`."""
    usable = _usable_items(items, present)
    different = ops.not_equal(usable[:, :, None], usable[:, None, :])
    both = ops.logical_and(usable[:, :, None] > 0, usable[:, None, :] > 0)
    ordered = ops.sum(ops.cast(ops.logical_and(different, both), "float32"), axis=(1, 2))
    return ordered / 2.0


def draw_pairs(items: Tensor, count: int, seed: keras.random.SeedGenerator) -> DrawnPairs:
    """Up to `count` pairs of real positions per window, whatever their items have.

    The packed pairs of a window are cut into `count` equal slices and one pair is
    drawn from each, which needs no sorting. Every real pair is drawn
    `1 / stands_for` times on average, so that

        stands_for * sum of x over drawn valid pairs / number of valid pairs

    is an unbiased estimate of the mean of x over the window's valid pairs. It is
    that mean itself in a window with no more than `count` pairs: all are taken.

    Returns:
        The drawn pairs, `min(count, length * (length - 1) / 2)` per window.
    """
    length = ops.shape(items)[1]
    possible = length * (length - 1) // 2
    count = min(count, possible) if isinstance(possible, int) else ops.minimum(count, possible)
    lengths = ops.sum(ops.cast(real_positions(items), "float32"), axis=1, keepdims=True)
    real = lengths * (lengths - 1.0) / 2.0
    stands_for = ops.maximum(real / ops.maximum(ops.cast(count, "float32"), 1.0), 1.0)
    place = keras.random.uniform((ops.shape(items)[0], count), seed=seed)
    place = ops.where(stands_for > 1.0, place, ops.zeros_like(place))
    place = (place + ops.cast(ops.arange(count), "float32")) * stands_for
    # Rounding may lift the last place to the end of the window's pairs.
    index = ops.minimum(ops.floor(place), ops.maximum(real - 1.0, 0.0))
    taken = ops.cast(ops.arange(count), "float32") < real
    return DrawnPairs(ops.cast(index, "int32"), taken, stands_for[:, 0])


def pair_differences(states: Tensor, positions: Positions) -> Tensor:
    """State at i minus state at j, for each pair of positions: floats `(batch, pairs, dim)`.

    It is a product with a matrix of 1 and -1, `pairs * length * dim` multiplications,
    whose gradient is a product too: on a CPU half the time of gathering the
    states and scattering their gradients.
    """
    place = ops.arange(ops.shape(states)[1], dtype="int32")
    plus, minus = (ops.cast(ops.equal(p[..., None], place), states.dtype) for p in positions)
    return ops.matmul(plus - minus, states)


def pair_correlation(states: Tensor, positions: Positions, kind: str) -> Tensor:
    """ξ of the states at each pair of positions: floats `(batch, pairs)`, at least float32.

    Cosine and dot read one matrix product per window, `length**2 * dim`
    multiplications, without a tensor of that size.

    Args:
        states: What is compared.
        positions: Positions of the pairs, `(pairs,)` or `(batch, pairs)`.
        kind: Key of `kdsr_tf.ops.correlation.CORRELATIONS`.
    """
    if kind not in ("cosine", "dot"):
        differences = pair_differences(states, positions)
        return correlation(differences, ops.zeros_like(differences), kind)
    states = unit_vectors(states) if kind == "cosine" else ops.cast(states, "float32")
    first, second = positions
    length = ops.shape(states)[1]
    gram = ops.matmul(states, ops.transpose(states, (0, 2, 1)))
    index = second * length + first
    if len(index.shape) == 1:
        return gather(ops.reshape(gram, (-1, length * length)), index, axis=1)
    starts = ops.arange(ops.shape(gram)[0], dtype="int32")[:, None] * (length * length)
    return gather(ops.reshape(gram, (-1,)), starts + index)


def _usable_items(items: Tensor, present: Tensor) -> Tensor:
    """Items with the modality; 0 elsewhere."""
    has = ops.logical_and(real_positions(items), ops.cast(present, "bool"))
    return ops.where(has, items, ops.zeros_like(items))


def _take_pairs(values: Tensor, index: Tensor) -> Tensor:
    """Values `(batch, ...)` at `(pairs,)` for every window or `(batch, pairs)`."""
    if len(index.shape) == 1:
        return gather(values, index, axis=1)
    return ops.take_along_axis(values, index, axis=1)
