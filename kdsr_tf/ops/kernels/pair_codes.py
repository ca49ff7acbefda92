"""Cross-entropy of the codes of pairs, without anything of the size of all pairs."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.kernels.cross_entropy import cross_entropy_of, plain_cross_entropy
from kdsr_tf.types import Tensor

CHUNK_PAIRS = 4_096
"""Most pairs of a chunk: what is made of them stays in the caches of a CPU."""

BLOCK_CHUNKS = 16
"""Chunks whose gradients of rows are added up apart: an addition to rows copies all of them."""


def summed_code_loss(
    rows: Tensor,
    inner: Tensor,
    outer: Tensor,
    first: Tensor,
    second: Tensor,
    codes: Tensor,
    weights: Tensor,
    chunk_pairs: int = CHUNK_PAIRS,
) -> Tensor:
    """Weighted sum of the cross-entropies of W_out ReLU(W_c |e_i - e_j|) (Eq. 5).

    Distances, hidden units and logits exist for a chunk of pairs at a time, and all
    gradients are made of them at once; the backward pass computes nothing. Memory does
    not grow with the number of pairs but for the four numbers of each.

    Args:
        rows: e, floats `(rows, dim)`.
        inner: W_c transposed, floats `(dim, hidden)`.
        outer: W_out transposed, floats `(hidden, num_codes)`.
        first: Row i of each pair, ints `(pairs,)`.
        second: Row j of each pair, ints `(pairs,)`.
        codes: The teacher's codes, ints `(pairs,)`.
        weights: Weight of each pair, floats `(pairs,)`.
        chunk_pairs: Most pairs of a chunk, > 0; the chunks are as equal as they can be.

    Returns:
        A float32 scalar, 0 where there is no pair.

    Example:
        >>> import numpy as np
        >>> one = np.ones((1,), "int32")
        >>> rows, kernel = np.zeros((2, 3), "float32"), np.ones((3, 4), "float32")
        >>> loss = summed_code_loss(rows, kernel[:, :3], kernel, 0 * one, one, one, one / 1.0)
        >>> round(float(loss), 4)
        1.3863

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 5.
    """
    whole = (ops.cast(part, "int32") for part in (first, second, codes))
    pairs = (*whole, ops.cast(weights, "float32"))

    @ops.custom_gradient
    def loss(rows: Tensor, inner: Tensor, outer: Tensor):
        total, *found = _of_chunks(rows, inner, outer, pairs, chunk_pairs)

        def gradients(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            return tuple(upstream * gradient for gradient in found)

        return total, gradients

    return loss(*(ops.cast(part, "float32") for part in (rows, inner, outer)))


def plain_summed_code_loss(
    rows: Tensor,
    inner: Tensor,
    outer: Tensor,
    first: Tensor,
    second: Tensor,
    codes: Tensor,
    weights: Tensor,
) -> Tensor:
    """`summed_code_loss` from the logits of all pairs, differentiated by the backend."""
    distances = ops.abs(gather(rows, first) - gather(rows, second))
    logits = ops.matmul(ops.relu(ops.matmul(distances, inner)), outer)
    return ops.sum(plain_cross_entropy(logits, codes) * weights)


def _of_chunks(
    rows: Tensor, inner: Tensor, outer: Tensor, pairs: tuple[Tensor, ...], chunk_pairs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and its gradients for the rows and both kernels."""
    count = ops.shape(pairs[0])[0]
    number = count // chunk_pairs + 1
    size = count // number + 1
    block, blocks = size * BLOCK_CHUNKS, number // BLOCK_CHUNKS + 1
    lows, span = _touched(pairs[:2], count, blocks, block, ops.shape(rows)[0])
    # What is padded has row 0 twice and weighs nothing.
    padded = [ops.pad(part, [[0, blocks * block - count]]) for part in pairs]

    def of_block(start, total, by_row, by_inner, by_outer):
        low = gather(lows, start // block)
        stop = ops.minimum(start + block, count)

        def of_chunk(start, total, by_first, by_second, by_inner, by_outer):
            first, second, code, weight = (ops.slice(part, (start,), (size,)) for part in padded)
            difference = gather(rows, first) - gather(rows, second)
            distance = ops.abs(difference)
            hidden = ops.relu(ops.matmul(distance, inner))
            logits = ops.matmul(hidden, outer)
            probabilities, losses = cross_entropy_of(logits, code[:, None])
            errors = (probabilities - ops.one_hot(code, outer.shape[1])) * weight[:, None]
            by_outer = by_outer + ops.matmul(ops.transpose(hidden), errors)
            errors = ops.matmul(errors, ops.transpose(outer)) * ops.sign(hidden)
            by_inner = by_inner + ops.matmul(ops.transpose(distance), errors)
            errors = ops.matmul(errors, ops.transpose(inner)) * ops.sign(difference)
            first, second = (ops.clip(row - low, 0, span - 1)[:, None] for row in (first, second))
            by_first = ops.scatter_update(by_first, first, errors, reduction="add")
            by_second = ops.scatter_update(by_second, second, errors, reduction="add")
            total = total + ops.sum(losses[:, 0] * weight)
            return start + size, total, by_first, by_second, by_inner, by_outer

        near = ops.zeros((span, rows.shape[1]))
        state = (start, total, near, near, by_inner, by_outer)
        found = ops.while_loop(lambda start, *_: start < stop, of_chunk, state)
        _, total, by_first, by_second, by_inner, by_outer = found
        touched = (low + ops.arange(span, dtype="int32"))[:, None]
        by_row = ops.scatter_update(by_row, touched, by_first - by_second, reduction="add")
        return start + block, total, by_row, by_inner, by_outer

    state = (0, ops.zeros(()), *(ops.zeros_like(part) for part in (rows, inner, outer)))
    found = ops.while_loop(lambda start, *_: start < count, of_block, state)
    return found[1:]


def _touched(
    rows: Sequence[Tensor],
    count: int | Tensor,
    blocks: int | Tensor,
    block: int | Tensor,
    num_rows: int | Tensor,
) -> tuple[Tensor, Tensor]:
    """The first row that each block touches, and how many from there on hold all of a block."""
    padding = [[0, blocks * block - count]]
    low, high = ops.minimum(*rows), ops.maximum(*rows)
    low = ops.reshape(ops.pad(low, padding, constant_values=num_rows), (blocks, block))
    high = ops.reshape(ops.pad(high, padding, constant_values=-1), (blocks, block))
    low, high = ops.min(low, axis=1), ops.max(high, axis=1)
    span = ops.maximum(ops.max(high - low) + 1, 1)
    return ops.minimum(low, num_rows - span), span
