"""The targets of a batch, and what is to predict them."""

from __future__ import annotations

from keras import ops

from kdsr_tf.types import Tensor


def at_targets(
    targets: Tensor, representations: Tensor, index: Tensor | None, packs: bool
) -> tuple[Tensor, Tensor]:
    """Targets with the representations that are to predict them.

    Args:
        targets: Of every row, 0 where there is none.
        representations: `(..., dim)`, as many rows.
        index: Where the targets are among the rows, `(count,)`, -1 for none; or None.
        packs: Whether to look for them, where there is no index.

    Returns:
        Targets `(count,)` and representations `(count, dim)`: of all rows where there is
        no index and none is to be looked for.
    """
    representations = ops.reshape(representations, (-1, representations.shape[-1]))
    if index is None and packs:
        at = ops.nonzero(targets > 0)[0]
        return ops.take(targets, at, axis=0), ops.take(representations, at, axis=0)
    if index is None:
        return targets, representations
    at = ops.maximum(index, 0)
    targets = ops.where(index >= 0, ops.take(targets, at, axis=0), 0)
    return targets, ops.take(representations, at, axis=0)
