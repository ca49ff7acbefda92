"""The interface of all item encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from kdsr_tf.types import Tensor

ItemVectors = Mapping[str, Tensor]
"""Vectors of items by source.

`items` ints `(...)`, 0 is padding; per source s: s floats `(..., dim of s)`, and
`{s}_present` bools `(...)` for sources that an item may lack.
"""


class ItemEncoder(keras.layers.Layer):
    """Turns items into vectors, one per source.

    A source is a kind of knowledge of an item, such as its id, its text or its image. What
    enters the backbone (the call) and what items are scored by (`scored`, `catalogue`) may
    differ, as with an id table of its own on the way in.

    Attributes:
        sources: Names of the vectors of an item.

    Call arguments:
        items: Ints of any shape, 0 is padding.
        sparse_gradients: Whether a table's gradient may hold looked-up rows only. Only where
            nothing else reads the whole table; otherwise the gradient is dense.

    Returns:
        `ItemVectors` of what enters the backbone.
    """

    sources: tuple[str, ...] = ()

    def scored(
        self,
        items: Tensor,
        sources: Sequence[str],
        entered: ItemVectors | None = None,
        sparse_gradients: bool = False,
    ) -> ItemVectors:
        """Vectors by which items are scored.

        Args:
            items: Ints of any shape.
            sources: Those that are wanted.
            entered: Result of the call for the same items, if it is at hand: what is the
                same there is not computed again.
            sparse_gradients: As in the call.
        """
        raise NotImplementedError

    def catalogue(self, sources: Sequence[str]) -> ItemVectors:
        """Vectors by which all items are scored, row k of item k; row 0 is padding.

        Args:
            sources: Those that are wanted.
        """
        raise NotImplementedError

    def row_variables(self) -> dict[str, keras.Variable]:
        """Variables that have a row per item, by name; none if vectors are computed."""
        return {}

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Trainable variables that learn at rates of their own, by the name of the rate."""
        return {}
