"""What computed items read: features by item, outside of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kdsr_tf.items.known_items import NO_ITEM
from kdsr_tf.schema import BATCH_ITEMS, PAD, content_key, present_key


class ContentSpec(NamedTuple):
    """Shape (`()` for a number) and dtype, such as `float16`, of one feature of an item."""

    shape: tuple[int, ...]
    dtype: str


class Content:
    """Features of all items, read a few rows at a time.

    Args:
        arrays: By name, `(num_items + 1, ...)`, row k of item k; row 0 is padding. They may
            be memory-mapped: 10 thousand and 10 million items take the same path. Anything
            with a shape, a dtype and rows that arrays of items pick will do.

    Raises:
        ValueError: if there is no array, or they differ in length.

    Example:
        >>> content = Content({"text": np.eye(4, dtype="float32")})
        >>> found = content.of_batch(np.array([[3, 1, 0]]), np.array([[1, 3, 0]]))
        >>> found["batch_items"].tolist(), found["content_text"].shape
        ([0, 1, 3], (3, 4))
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                "`arrays` must have one length, that of the items and a row of padding. "
                f"Received: {lengths}."
            )
        self._arrays = dict(arrays)
        self.num_items = next(iter(lengths.values())) - 1

    @property
    def spec(self) -> dict[str, ContentSpec]:
        """Shape and dtype of the features of one item."""
        return {
            name: ContentSpec(array.shape[1:], array.dtype.name)
            for name, array in self._arrays.items()
        }

    def any_present(self) -> np.ndarray:
        """Which items have a feature: bools `(num_items + 1,)`.

        The arrays named `{m}_present` say it; without them every item has all.
        """
        flags = [a for name, a in self._arrays.items() if name.endswith(present_key(""))]
        return np.any(flags, axis=0) if flags else np.ones(self.num_items + 1, bool)

    def rows(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """Features of some items, ints `(any,)`, 0 is padding."""
        return {name: array[items] for name, array in self._arrays.items()}

    def of_batch(self, *items: np.ndarray, round_up: bool = False) -> dict[str, np.ndarray]:
        """What a batch brings for computed items: each of its items once.

        Args:
            *items: All items that the step reads, ints of any shape.
            round_up: Whether the number of items is rounded up to a sixteenth of what it can
                be, so that compiled steps see few shapes.

        Returns:
            `batch_items` int32 `(rows,)`: 0 and the items, ascending, then `NO_ITEM`; and
            `content_{name}` `(rows, ...)` per array, those of padding for `NO_ITEM`.
        """
        read = np.concatenate([[PAD], *(np.ravel(part) for part in items)])
        found = np.unique(read).astype(np.int32)
        missing = -len(found) % -(-len(read) // 16) if round_up else 0
        rows = self.rows(np.pad(found, (0, missing), constant_values=PAD))
        known = np.pad(found, (0, missing), constant_values=NO_ITEM)
        return {BATCH_ITEMS: known} | {content_key(name): values for name, values in rows.items()}
