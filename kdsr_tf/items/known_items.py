"""Items whose vectors can be looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.schema import ITEMS, PAD, present_key
from kdsr_tf.types import Tensor

ItemVectors = Mapping[str, Tensor]
"""Vectors of items by source.

`items` ints `(...)`, 0 is padding; per source s: s floats `(..., dim of s)`, and
`{s}_present` bools `(...)` for sources that an item may lack.
"""

NO_ITEM = 2**31 - 1
"""Stands at the end of the items of a batch whose number is rounded up."""


class KnownItems(Protocol):
    """All items of a catalogue, or those of a batch."""

    def __call__(self, items: Tensor, sparse_gradients: bool = False) -> ItemVectors:
        """What enters the backbone.

        Args:
            items: Known ones, ints of any shape, 0 is padding.
            sparse_gradients: Whether a table's gradient may hold looked-up rows only. Only
                where nothing else reads the whole table; otherwise the gradient is dense.
        """

    def scored(
        self,
        items: Tensor,
        sources: Sequence[str],
        entered: ItemVectors | None = None,
        sparse_gradients: bool = False,
    ) -> ItemVectors:
        """Vectors by which items are scored.

        Args:
            items: Known ones, ints of any shape.
            sources: Those that are wanted.
            entered: Result of the call for the same items, if it is at hand: what is the
                same there is not computed again.
            sparse_gradients: As in the call.
        """

    def catalogue(self, sources: Sequence[str]) -> ItemVectors:
        """Vectors by which all known items are scored, `(rows, ...)`; row 0 is padding.

        Those of the sources that are wanted.
        """

    def rows_of(self, items: Tensor) -> Tensor:
        """Rows of `catalogue` that hold some known items, ints of the shape of `items`."""


class EncodedItems:
    """Items of one batch with the vectors that were computed for them.

    Args:
        vectors: Vectors of the items. Its entry `items`, ints `(rows,)`, begins with 0,
            ascends, and may end with some `NO_ITEM`; the others are those of `ItemVectors`.
    """

    def __init__(self, vectors: ItemVectors) -> None:
        self._vectors = vectors

    def __call__(self, items: Tensor, sparse_gradients: bool = False) -> ItemVectors:
        at = self.rows_of(items)
        found = {name: gather(rows, at) for name, rows in self._vectors.items()}
        return found | {ITEMS: items}

    def scored(
        self,
        items: Tensor,
        sources: Sequence[str],
        entered: ItemVectors | None = None,
        sparse_gradients: bool = False,
    ) -> ItemVectors:
        """As `KnownItems` has it: what enters is what is scored by."""
        return self(items) if entered is None else entered

    def catalogue(self, sources: Sequence[str]) -> ItemVectors:
        """The items of the batch."""
        return self._vectors

    def rows_of(self, items: Tensor) -> Tensor:
        """By binary search.

        An item that the batch lacks gets the row after the last one. Reading that row is an
        error on a CPU with TensorFlow and gives NaN on JAX.
        """
        held, asked = self._vectors[ITEMS], ops.cast(ops.reshape(items, (-1,)), "int32")
        last = ops.shape(held)[0] - 1
        found = ops.minimum(ops.searchsorted(held, asked), last)
        found = ops.where(ops.equal(gather(held, found), asked), found, last + 1)
        return ops.reshape(found, ops.shape(items))


def only_of_items(items: Tensor, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which items, ints, have a source; padding has none. `present`: bools by source."""
    real = ops.not_equal(items, PAD)
    return {present_key(source): ops.logical_and(has, real) for source, has in present.items()}
