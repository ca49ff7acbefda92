"""Vectors of items that were computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from kdsr_tf.items.content import Content
from kdsr_tf.items.item_encoder import ItemEncoder, Space
from kdsr_tf.items.known_items import ItemVectors, only_of_items
from kdsr_tf.ops.gather import gather
from kdsr_tf.schema import ITEMS, present_key
from kdsr_tf.types import Tensor

_SCORED = "scored_"


def scored_key(source: str) -> str:
    """Name of the vectors that items are scored by in a source, if they are not what enters."""
    return f"{_SCORED}{source}"


@keras.saving.register_keras_serializable(package="kdsr_tf")
class MaterialisedItems(ItemEncoder):
    """Looks up vectors that no longer learn: what is evaluated, exported and served.

    Args:
        num_items: Items N, > 0.
        sizes: Width of the vectors of each source, by its name. One named `scored_{source}`
            is what items are scored by, if that is not what enters.
        optional: Sources that an item may lack.

    Call arguments:
        items: Ints of any shape, 0 is padding.

    Returns:
        `ItemVectors` of what enters the backbone.

    Example:
        >>> items = MaterialisedItems.of(("text",), {"text": np.eye(4, dtype="float32")})
        >>> items.num_items, np.asarray(items(np.array([[2, 0]]))["text"])[0, 0].tolist()
        (3, [0.0, 0.0, 1.0, 0.0])
    """

    def __init__(
        self, num_items: int, sizes: Mapping[str, int], optional: Sequence[str] = (), **kwargs
    ):
        super().__init__(**kwargs)
        self.num_items = num_items
        self._sizes = dict(sizes)
        self._optional = tuple(optional)
        self.sources = tuple(name for name in sizes if not name.startswith(_SCORED))

    @classmethod
    def of(cls, sources: Sequence[str], vectors: Mapping[str, np.ndarray]) -> MaterialisedItems:
        """The encoder of given vectors.

        Args:
            sources: Names of the vectors of an item.
            vectors: Per source its vectors `(num_items + 1, any)`; `{s}_present` bools
                `(num_items + 1,)` for sources that an item may lack; `scored_{s}` where items
                are scored by other vectors than those that enter.
        """
        optional = [source for source in sources if present_key(source) in vectors]
        names = [*sources, *(scored_key(s) for s in sources if scored_key(s) in vectors)]
        sizes = {name: vectors[name].shape[1] for name in names}
        made = cls(len(vectors[sources[0]]) - 1, sizes, optional, name="items")
        # Names of variables begin with that of a model, also where a part is built alone.
        with keras.name_scope("served"):
            made.build()
        for name, variable in made.row_variables().items():
            variable.assign(vectors[name])
        return made

    def build(self, input_shape=None) -> None:
        rows = self.num_items + 1
        self._rows = {
            name: self.add_weight(
                shape=(rows, size), initializer="zeros", trainable=False, name=name
            )
            for name, size in self._sizes.items()
        }
        self._present = {
            source: self.add_weight(
                shape=(rows,),
                dtype="bool",
                initializer="ones",
                trainable=False,
                name=present_key(source),
            )
            for source in self._optional
        }
        self.built = True

    def call(self, items: Tensor, sparse_gradients: bool = False) -> ItemVectors:
        return self._found(items, self.sources, self.sources)

    def scored(
        self,
        items: Tensor,
        sources: Sequence[str],
        entered: ItemVectors | None = None,
        sparse_gradients: bool = False,
    ) -> ItemVectors:
        return self._found(items, sources, self._scored_by(sources))

    def catalogue(self, sources: Sequence[str]) -> ItemVectors:
        found = {
            source: ops.convert_to_tensor(self._rows[name])
            for source, name in zip(sources, self._scored_by(sources), strict=True)
        }
        return found | {ITEMS: ops.arange(self.num_items + 1, dtype="int32")}

    def materialised(
        self, content: Content | None = None, rows: np.ndarray | None = None
    ) -> MaterialisedItems:
        vectors = {k: ops.convert_to_numpy(v) for k, v in self.row_variables().items()}
        if rows is not None:
            vectors = {name: values[rows] for name, values in vectors.items()}
        return MaterialisedItems.of(self.sources, vectors)

    def spaces(self) -> dict[str, Space]:
        names = zip(self.sources, self._scored_by(self.sources), strict=True)
        return {
            source: Space(
                ops.convert_to_numpy(self._rows[name]),
                ops.convert_to_numpy(self._present[source]) if source in self._present else None,
            )
            for source, name in names
        }

    def row_variables(self) -> dict[str, keras.Variable]:
        present = {present_key(source): flags for source, flags in self._present.items()}
        return {**self._rows, **present}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_items": self.num_items,
            "sizes": self._sizes,
            "optional": list(self._optional),
        }

    def _scored_by(self, sources: Sequence[str]) -> list[str]:
        return [s if scored_key(s) not in self._rows else scored_key(s) for s in sources]

    def _found(self, items: Tensor, sources: Sequence[str], names: Sequence[str]) -> ItemVectors:
        found = {
            source: gather(self._rows[name], items)
            for source, name in zip(sources, names, strict=True)
        }
        present = {
            source: gather(self._present[source], items)
            for source in sources
            if source in self._present
        }
        return found | {ITEMS: items} | only_of_items(items, present)
