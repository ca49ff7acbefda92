"""Losses between a position and the item after it."""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from kdsr_tf.ops.masking import real_positions
from kdsr_tf.schema import ITEMS, present_key
from kdsr_tf.types import Tensor


def next_present(embeddings: dict[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Whether the item after a position has any of some modalities; false if padding follows.

    Args:
        embeddings: Result of `ItemTables`.
        modalities: Names, at least one.

    Returns:
        Bools `(batch, length - 1)`.
    """
    present = real_positions(embeddings[ITEMS][:, 1:])
    has = [embeddings[present_key(modality)][:, 1:] for modality in modalities]
    return ops.logical_and(present, ops.any(ops.stack(has), axis=0))


def mean_over_positions(losses: Tensor, valid: Tensor) -> Tensor:
    """Mean of finite losses `(batch, positions)` over the valid positions; 0 if there is none."""
    weights = ops.cast(valid, losses.dtype)
    return ops.sum(losses * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)
