"""The interface of all item encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from kdsr_tf.items.content import Content
from kdsr_tf.items.known_items import KnownItems
from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.types import Tensor


class Space(NamedTuple):
    """Vectors by which items are alike.

    Attributes:
        vectors: Floats `(num_items + 1, any)`, row k of item k; row 0 is padding.
        present: Bools `(num_items + 1,)`: which items have one; None for all.
    """

    vectors: np.ndarray
    present: np.ndarray | None = None


class ItemEncoder(ConfiguredLayer):
    """Turns items into vectors, one per source.

    A source is a kind of knowledge of an item, such as its id, its text or its image. What
    enters the backbone and what items are scored by may differ, as with an id table of its
    own on the way in.

    There are two kinds: an encoder that looks vectors up (`ItemTables`) is itself
    `KnownItems`; one that computes them from content is a `ComputedItems`.

    Attributes:
        sources: Names of the vectors of an item.
        computed: Whether vectors are computed from content.
        num_items: Items N; an encoder that computes can be asked for more.
        slow_groups: Those of `variable_groups` that start slowly, because they begin with
            what was learnt before.
    """

    sources: tuple[str, ...] = ()
    computed = False
    num_items: int
    slow_groups: tuple[str, ...] = ()

    def build(self, input_shape=None) -> None:
        """Nothing: an encoder with weights adds them here."""
        self.built = True

    def in_batch(self, inputs: Mapping[str, Tensor], training: bool) -> KnownItems:
        """The items of a batch; those of an encoder that looks up are all of its items."""
        return self

    def rows_of(self, items: Tensor) -> Tensor:
        """Rows of the catalogue that hold some items, of an encoder that looks up."""
        return items

    def materialised(self, content: Content | None = None, rows: np.ndarray | None = None) -> Any:
        """An encoder that looks up the vectors of a catalogue, whose weights do not learn.

        Args:
            content: Features of all items; only an encoder that computes reads them.
            rows: The item that each row is to hold, ints `(rows,)`, 0 first: items in a new
                order, or fewer. None keeps all as they are.

        Returns:
            A built `ItemEncoder` that is `KnownItems` and shares no variable with this one.
        """
        raise NotImplementedError

    def spaces(self) -> dict[str, Space]:
        """Vectors by which items are alike, per source, of an encoder that looks up."""
        raise NotImplementedError

    def copy_known_rows(self, earlier: Any, rows: np.ndarray, theirs: np.ndarray) -> None:
        """Take the rows of items from an encoder that was trained before.

        All other weights have been copied. An encoder without rows has nothing to do.

        Args:
            earlier: Item encoder of the same kind.
            rows: Items here, ints `(known,)`.
            theirs: The same items there, ints `(known,)`.
        """

    def row_variables(self) -> dict[str, keras.Variable]:
        """Variables that have a row per item, by name; none if vectors are computed."""
        return {}

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Trainable variables that learn at rates of their own, by the name of the rate."""
        return {}
