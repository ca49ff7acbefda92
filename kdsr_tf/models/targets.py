"""The targets of a batch, and what is to predict them."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from kdsr_tf.models.student import Student
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.schema import ITEMS
from kdsr_tf.types import Tensor


class Predictions(NamedTuple):
    """What a student says of a batch.

    Attributes:
        states: Of its backbone, `(batch, length, dim)`, or of rows `(rows, dim)`.
        targets: Ints `(count,)`, 0 for none.
        representations: P that is to predict them, floats `(count, dim)`.
    """

    states: Tensor
    targets: Tensor
    representations: Tensor


def predictions(
    student: Student,
    embeddings: dict[str, Tensor],
    targets: Tensor,
    index: Tensor | None,
    packs: bool,
    windows: WindowGroups | None = None,
    training: bool | None = None,
) -> Predictions:
    """Targets with the representations that are to predict them.

    Args:
        student: The model.
        embeddings: Result of its tables.
        targets: Of every position or row, `(rows,)`; 0 where there is none.
        index: Where the targets are among them, `(count,)`, -1 for none; or None.
        packs: Whether to look for them, where there is no index; otherwise all positions
            are taken.
        windows: As in `Student.represent`.
        training: Whether to drop.
    """
    if packs and not student.backbone.causal:
        at = _where(targets)
        length = ops.shape(embeddings[ITEMS])[1]
        states, found = student.represent_at(embeddings, at // length, at % length, training)
        return Predictions(states, ops.take(targets, at, axis=0), found)
    states, found = student.represent(embeddings, training, windows)
    found = ops.reshape(found, (-1, found.shape[-1]))
    if index is not None:
        at = ops.maximum(index, 0)
        targets = ops.where(index >= 0, ops.take(targets, at, axis=0), 0)
        return Predictions(states, targets, ops.take(found, at, axis=0))
    if packs:
        at = _where(targets)
        targets, found = ops.take(targets, at, axis=0), ops.take(found, at, axis=0)
    return Predictions(states, targets, found)


def _where(targets: Tensor) -> Tensor:
    return ops.cast(ops.nonzero(targets > 0)[0], "int32")
