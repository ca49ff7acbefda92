"""Items whose vectors are computed from content."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from keras import ops

from kdsr_tf.items.content import Content, ContentSpec
from kdsr_tf.items.item_encoder import ItemEncoder
from kdsr_tf.items.known_items import EncodedItems, ItemVectors, KnownItems
from kdsr_tf.items.materialised_items import MaterialisedItems, scored_key
from kdsr_tf.schema import BATCH_ITEMS, PAD, content_key, present_key
from kdsr_tf.types import Tensor

_ITEMS_AT_ONCE = 4096


class ComputedItems(ItemEncoder):
    """An item encoder with a network in place of tables.

    Content is no weight: a batch brings that of its items, each once, the network encodes
    them once, and windows, targets and candidates are gathered from the result. A catalogue
    is encoded in chunks, once per pass over tests and once before it is served.

    A subclass sets `sources`, `num_items`, builds its layers in `build`, says what it reads
    (`content_spec`) and computes (`call`).

    Call arguments:
        items: Ints `(rows,)`, 0 is padding.
        content: Features by name, `(rows, ...)` each; see `content_spec`.
        training: Whether to drop units.

    Returns:
        `ItemVectors` with one entry per source; those of padding mean nothing. Other entries
        are seen by objectives and are not served.
    """

    computed = True

    def content_spec(self) -> dict[str, ContentSpec]:
        """What is read of an item, by name."""
        raise NotImplementedError

    def call(
        self, items: Tensor, content: Mapping[str, Tensor], training: bool | None = None
    ) -> ItemVectors:
        raise NotImplementedError

    def in_batch(self, inputs: Mapping[str, Tensor], training: bool) -> KnownItems:
        """The items of a batch, their vectors computed once.

        Raises:
            ValueError: if the batch lacks content; see `Content.of_batch`.
        """
        keys = {name: content_key(name) for name in self.content_spec()}
        missing = [key for key in (BATCH_ITEMS, *keys.values()) if key not in inputs]
        if missing:
            raise ValueError(
                f"{type(self).__name__} computes vectors from content that the batch lacks: "
                f"{', '.join(missing)}. Received: {', '.join(sorted(inputs))}. "
                "`Content.of_batch` makes it."
            )
        content = {name: inputs[key] for name, key in keys.items()}
        return EncodedItems(self(inputs[BATCH_ITEMS], content=content, training=training))

    def materialised(
        self, content: Content | None = None, rows: np.ndarray | None = None
    ) -> MaterialisedItems:
        """The vectors of a catalogue, computed in chunks.

        Raises:
            ValueError: if there is no content, or it is not what `content_spec` says.
        """
        if content is None or content.spec != self.content_spec():
            raise ValueError(
                f"{type(self).__name__} computes vectors from content of all items, "
                f"{self.content_spec()}. Received: {content and content.spec}."
            )
        if rows is None:
            rows = np.arange(content.num_items + 1, dtype=np.int32)
        served = {kind(s) for s in self.sources for kind in (str, present_key, scored_key)}
        parts: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(rows), _ITEMS_AT_ONCE):
            items = np.asarray(rows[start : start + _ITEMS_AT_ONCE], np.int32)
            found = self(ops.convert_to_tensor(items), content=content.rows(items), training=False)
            for name, values in found.items():
                if name in served:
                    parts.setdefault(name, []).append(ops.convert_to_numpy(values))
        vectors = {name: np.concatenate(values) for name, values in parts.items()}
        for values in vectors.values():
            values[PAD] = 0
        return MaterialisedItems.of(self.sources, vectors)
