"""Softmax cross-entropy: of given logits, and over a catalogue without all logits at once."""

from __future__ import annotations

import math

from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import softmax
from kdsr_tf.types import Tensor

CHUNK_NUMBERS = 6 * 2**20
"""Most logits of a chunk: more gain nothing."""

CHUNK_ROWS = (64, 512)
"""Fewest and most rows of a chunk: products of few rows are slow, more gain nothing."""

_SMALLEST = 1e-30
"""A probability below this has lost digits in float32."""


def cross_entropy(logits: Tensor, columns: Tensor) -> Tensor:
    """Softmax cross-entropy of one column of every row.

    The value and gradient of `keras.ops.sparse_categorical_crossentropy`, made of a softmax,
    which on a CPU takes an eighth of the time of TensorFlow's own operation.

    Args:
        logits: Floats `(..., number)`.
        columns: Ints `(...)`, in `0..number - 1`; the loss of any other is NaN.

    Returns:
        float32 `(...)`.

    Raises:
        ValueError: if the shapes, as far as they are known, do not fit each other.

    Example:
        >>> import numpy as np
        >>> [round(float(x), 4) for x in cross_entropy(np.zeros((2, 4)), np.array([0, 3]))]
        [1.3863, 1.3863]
    """
    logits = ops.convert_to_tensor(logits, "float32")
    columns = ops.convert_to_tensor(columns, "int32")
    wanted, given = tuple(logits.shape[:-1]), tuple(columns.shape)
    pairs = zip(wanted, given, strict=False)
    if len(wanted) != len(given) or any(None not in pair and len(set(pair)) > 1 for pair in pairs):
        raise ValueError(
            f"There must be one column per row of the logits. Received: columns {given}, "
            f"logits {tuple(logits.shape)}."
        )
    number = ops.shape(logits)[-1]
    column = ops.reshape(columns, (-1, 1))

    @ops.custom_gradient
    def loss(logits: Tensor):
        known = ops.logical_and(column >= 0, column < number)
        own = ops.where(known, column, 0)
        probabilities, losses = cross_entropy_of(logits, own)

        def gradient(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            place = ops.arange(ops.shape(own)[0], dtype="int32")[:, None]
            at = ops.concatenate([place, own], axis=1)
            errors = upstream * probabilities
            return ops.scatter_update(errors, at, -upstream[:, 0], reduction="add")

        return ops.where(known, losses, math.nan), gradient

    return ops.reshape(loss(ops.reshape(logits, (-1, number))), ops.shape(columns))


def plain_cross_entropy(logits: Tensor, columns: Tensor) -> Tensor:
    """`cross_entropy` as the backend has it."""
    return ops.sparse_categorical_crossentropy(
        ops.cast(columns, "int32"), ops.cast(logits, "float32"), from_logits=True
    )


def summed_cross_entropy(
    representations: Tensor,
    table: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    chunk_rows: int | None = None,
) -> Tensor:
    """Softmax cross-entropy of targets among all items of a table, summed.

    The logits are `representations · tableᵀ` without padding's row. They exist for a
    chunk of rows at a time, and both gradients are made of them at once; the backward
    pass computes nothing. With P = softmax(logits) and, for N items and smoothing s,
    Y = (1 - s) onehot(targets) + s / N, the gradients are P · table - Y · table and
    Pᵀ · representations - Yᵀ · representations.

    Args:
        representations: Floats `(count, dim)`.
        table: Floats `(num_items + 1, dim)`; row 0 is padding.
        targets: Items, ints `(count,)`; 0 counts as nothing.
        label_smoothing: Share s of each target that all items have in equal parts, in [0, 1).
        chunk_rows: Most rows of a chunk, > 0; None follows `CHUNK_NUMBERS` and
            `CHUNK_ROWS`. The chunks are as equal as they can be.

    Returns:
        A float32 scalar, 0 where no row counts.

    Example:
        >>> import numpy as np
        >>> rows, table = np.zeros((2, 3), "float32"), np.zeros((5, 3), "float32")
        >>> round(float(summed_cross_entropy(rows, table, np.array([4, 0]))), 4)
        1.3863
    """
    targets = ops.cast(targets, "int32")
    if chunk_rows is None:
        fewest, most = CHUNK_ROWS
        chunk_rows = min(max(fewest, CHUNK_NUMBERS // table.shape[0]), most)

    @ops.custom_gradient
    def loss(representations: Tensor, table: Tensor):
        weights = ops.cast(targets > 0, "float32")[:, None]
        counting, items, share = representations * weights, table[1:], label_smoothing
        given = gather(table, targets)
        total, by_row, by_item = _of_chunks(representations, items, targets, chunk_rows)
        by_row = by_row - (1.0 - share) * given
        if share:
            shared = share * ops.mean(items, axis=0)
            total = total + ops.sum(counting * (share * given - shared))
            by_row = by_row - shared
            by_item = by_item - ops.sum(counting, axis=0) * (share / items.shape[0])
        by_row = by_row * weights
        by_item = ops.scatter_update(
            ops.pad(by_item, [[1, 0], [0, 0]]),
            targets[:, None],
            (share - 1.0) * counting,
            reduction="add",
        )

        def gradients(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            return upstream * by_row, upstream * by_item

        return total, gradients

    return loss(ops.cast(representations, "float32"), ops.cast(table, "float32"))


def plain_summed_cross_entropy(
    representations: Tensor, table: Tensor, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """`summed_cross_entropy` from all logits at once, differentiated by the backend."""
    logits = ops.matmul(representations, ops.transpose(table[1:]))
    losses = plain_cross_entropy(logits, ops.maximum(targets - 1, 0))
    uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
    losses = (1.0 - label_smoothing) * losses + label_smoothing * uniform
    return ops.sum(ops.where(targets > 0, losses, 0.0))


def _of_chunks(
    representations: Tensor, items: Tensor, targets: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, P · items of every row, and Pᵀ · representations of those that count."""
    count, dim = ops.shape(representations)[0], items.shape[1]
    number = count // (chunk_rows + 1) + 1
    size = count // number + 1
    missing = number * size - count
    rows = ops.pad(representations, [[0, missing], [0, 0]])
    targets = ops.pad(targets, [[0, missing]])[:, None]
    weights = ops.cast(targets > 0, "float32")
    columns = ops.maximum(targets - 1, 0)
    place = ops.arange(size, dtype="int32")[:, None]

    def body(start, total, by_row, by_item):
        part = ops.slice(rows, (start, 0), (size, dim))
        weight = ops.slice(weights, (start, 0), (size, 1))
        column = ops.slice(columns, (start, 0), (size, 1))
        logits = ops.matmul(part, ops.transpose(items))
        probabilities, losses = cross_entropy_of(logits, column)
        by_row = ops.scatter_update(by_row, start + place, ops.matmul(probabilities, items))
        # Transposed: turning the probabilities around would cost more than the product.
        by_item = by_item + ops.matmul(ops.transpose(part * weight), probabilities)
        return start + size, total + ops.sum(losses * weight), by_row, by_item

    state = (0, ops.zeros(()), ops.zeros_like(rows), ops.zeros((dim, items.shape[0])))
    _, total, by_row, by_item = ops.while_loop(lambda start, *_: start < count, body, state)
    return total, by_row[:count], ops.transpose(by_item)


def cross_entropy_of(logits: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax `(count, columns)`, and cross-entropy of one column `(count, 1)`, of every row.

    Not to be differentiated.
    """
    probabilities = softmax(logits)
    own = ops.take_along_axis(probabilities, column, axis=1)

    def exact() -> Tensor:
        given = ops.take_along_axis(logits, column, axis=1)
        return ops.logsumexp(logits, axis=1, keepdims=True) - given

    losses = ops.cond(ops.all(own > _SMALLEST), lambda: -ops.log(own), exact)
    return probabilities, losses
