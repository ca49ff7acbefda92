"""Items that a side network computes from the states of frozen encoders."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from kdsr_tf.items.computed_items import ComputedItems
from kdsr_tf.items.content import ContentSpec
from kdsr_tf.items.known_items import ItemVectors, only_of_items
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.layers.side_network import SideNetwork
from kdsr_tf.ops.look_up import look_up_rows
from kdsr_tf.schema import IDS, ITEMS, PAD, present_key, states_key
from kdsr_tf.types import Tensor

SIDE = "side"
"""Name of the group of variables that are side adapters."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SideItems(ComputedItems):
    """The vector that a `SideNetwork` makes of an item's states and, with ids, a row of its own.

    Without ids a new item has exactly the vector that it would have had in training. With ids it
    has that of the network only: the row of an item is what its interactions have taught.

    In training an item that loses a modality (`modality_dropout` of the network) loses it in the
    whole batch, in histories, as a target and as a negative: items are encoded once per batch.

    Args:
        num_items: Items N of training, > 0; others may be asked for.
        network: From states to vectors.
        ids: Whether a row of a table is added.
        states_dtypes: Precision of the states per modality; `float16` where absent.
        initial_std: Standard deviation of the table at the start.
        seed: Seed of the table.

    Call arguments:
        items: Ints `(rows,)`, 0 is padding.
        content: Per modality m, `{m}_states` `(rows, sum of the sizes)` and `{m}_present`
            `(rows,)`.
        training: Whether modalities are dropped.

    Returns:
        `item`, floats `(rows, dim)`, and, where the network has towers within modalities, their
        z per modality m, m `(rows, dim)` and `{m}_present` `(rows,)`, for objectives to read.
    """

    sources = (SideNetwork.ITEM,)

    def __init__(
        self,
        num_items: int,
        network: SideNetwork,
        ids: bool = False,
        states_dtypes: Mapping[str, str] | None = None,
        initial_std: float = 0.02,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_items = num_items
        self.network = network
        self.ids = ids
        self.states_dtypes = dict(states_dtypes or {})
        self.initial_std = initial_std
        self.seed = seed

    def build(self, input_shape=None) -> None:
        if not self.network.built:
            self.network.build()
        if self.ids:
            self.id_table = self.add_weight(
                shape=(self.num_items + 1, self.network.dim),
                initializer=keras.initializers.RandomNormal(
                    stddev=self.initial_std, seed=derive_seed(self.seed, IDS)
                ),
                name="id_table",
            )
        self.built = True

    def content_spec(self) -> dict[str, ContentSpec]:
        found = {}
        for m, sizes in self.network.sizes.items():
            found[states_key(m)] = ContentSpec((sum(sizes),), self.states_dtypes.get(m, "float16"))
            found[present_key(m)] = ContentSpec((), "bool")
        return found

    def call(
        self, items: Tensor, content: Mapping[str, Tensor], training: bool | None = None
    ) -> ItemVectors:
        states = {m: content[states_key(m)] for m in self.network.sizes}
        present = {m: content[present_key(m)] for m in self.network.sizes}
        found = self.network(states, present, training=training)
        if self.ids:
            known = ops.logical_and(items > PAD, items <= self.num_items)
            rows = look_up_rows(self.id_table, ops.where(known, items, PAD))
            own = ops.cast(known, self.compute_dtype)[:, None]
            item = found[SideNetwork.ITEM] + own * ops.cast(rows, self.compute_dtype)
            found[SideNetwork.ITEM] = item
        shown = only_of_items(items, {m: has for m, has in present.items() if m in found})
        return {ITEMS: items, **found, **shown}

    def row_variables(self) -> dict[str, keras.Variable]:
        """`ids`, the table, if there is one."""
        return {IDS: self.id_table} if self.ids else {}

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`side`: the adapters."""
        return {SIDE: self.network.adapter_variables()}

    def copy_known_rows(self, earlier: SideItems, rows: np.ndarray, theirs: np.ndarray) -> None:
        """Take the rows of ids, and what the states of the catalogue were like.

        With the statistics of then, the network makes of the same states the same vector.
        """
        if self.ids:
            table = np.array(ops.convert_to_numpy(self.id_table))
            table[rows] = ops.convert_to_numpy(earlier.id_table)[theirs]
            self.id_table.assign(table)
        for m, levels in self.network.levels.items():
            before = earlier.network.levels[m].non_trainable_variables
            for own, other in zip(levels.non_trainable_variables, before, strict=True):
                own.assign(other)

    def get_config(self) -> dict:
        # It is built as a part of this layer, so that its weights have the same names in a file.
        network = keras.saving.serialize_keras_object(self.network) | {"build_config": None}
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config: dict) -> SideItems:
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})
