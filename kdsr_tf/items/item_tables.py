"""Embeddings of items: ids and modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from kdsr_tf.items.content import Content
from kdsr_tf.items.item_encoder import ItemEncoder, Space
from kdsr_tf.items.known_items import ItemVectors
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.look_up import look_up, look_up_rows
from kdsr_tf.schema import IDS, ITEMS, PAD, present_key
from kdsr_tf.types import Tensor

INPUT_IDS = "input_ids"
"""Name of their table where it is not the one that scores items."""

MODALITY_TABLES = "modality_tables"
"""Name of the group of variables that starts from a teacher."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class ItemTables(ItemEncoder):
    """The item embeddings e_v (ids), e_a (image) and e_b (text).

    The id table starts at random; a modality table starts from the teacher's
    condensed vectors m̃ (`set_modality_vectors`) and is tuned or frozen. The row
    of an item without the modality starts at the mean of m̃, and a learnt
    "absent" bias is added to it, so outputs are finite even if no item has the
    modality. Padding has row 0; nothing downstream may read its output.

    Args:
        num_items: Items N, > 0; rows are `0..N`.
        dim: Size of every embedding, > 0.
        modalities: Names of the modality tables.
        trainable_modalities: False freezes the modality tables; the absent bias
            is learnt all the same.
        initial_std: Standard deviation of the random tables.
        tied: Whether items enter by the same id table that scores them; False gives the
            way in a table of its own.
        seed: Seed of the random tables.

    Call arguments:
        items: Ints `(batch, length)`, right-padded with 0.
        sparse_gradients: Whether the gradients of the tables may hold looked-up rows only,
            as with sampled negatives.

    Returns:
        Dict of `items` as given, `ids` `(batch, length, dim)` and per modality m:
        m `(batch, length, dim)` and `{m}_present`, bools `(batch, length)`.

    Example:
        >>> tables = ItemTables(num_items=9, dim=4, modalities=("text",))
        >>> outputs = tables(np.array([[3, 5, 0]]))
        >>> sorted(outputs), tuple(outputs["text"].shape)
        (['ids', 'items', 'text', 'text_present'], (1, 3, 4))

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.1.
    """

    slow_groups = (MODALITY_TABLES,)

    def __init__(
        self,
        num_items: int,
        dim: int,
        modalities: Sequence[str] = (),
        trainable_modalities: bool = True,
        initial_std: float = 0.02,
        tied: bool = True,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_items < 1 or dim < 1:
            raise ValueError(
                f"`num_items` and `dim` must be > 0. Received: num_items={num_items}, dim={dim}."
            )
        self.num_items = num_items
        self.dim = dim
        self.modalities = tuple(modalities)
        self.trainable_modalities = trainable_modalities
        self.initial_std = initial_std
        self.tied = tied
        self.seed = seed
        self.sources = (IDS, *self.modalities)

    def build(self, input_shape=None) -> None:
        shape = (self.num_items + 1, self.dim)
        self.id_table = self.add_weight(
            shape=shape, initializer=self._initializer(IDS), name="id_table"
        )
        self.input_id_table = self.id_table
        if not self.tied:
            self.input_id_table = self.add_weight(
                shape=shape, initializer=self._initializer(INPUT_IDS), name="input_id_table"
            )
        self._tables, self._present, self._absent_bias = {}, {}, {}
        for modality in self.modalities:
            self._tables[modality] = self.add_weight(
                shape=shape,
                initializer=self._initializer(modality),
                trainable=self.trainable_modalities,
                name=f"{modality}_table",
            )
            self._absent_bias[modality] = self.add_weight(
                shape=(self.dim,), initializer="zeros", name=f"{modality}_absent_bias"
            )
            self._present[modality] = self.add_weight(
                shape=(self.num_items + 1,),
                initializer="ones",
                trainable=False,
                name=f"{modality}_present",
            )
        self.built = True

    def call(self, items: Tensor, sparse_gradients: bool = False) -> dict[str, Tensor]:
        take = look_up_rows if sparse_gradients else look_up
        outputs = {ITEMS: items, IDS: take(self.input_id_table, items)}
        for modality in self.modalities:
            outputs |= self._of_modality(modality, items, take)
        return outputs

    def scored(
        self,
        items: Tensor,
        sources: Sequence[str],
        entered: ItemVectors | None = None,
        sparse_gradients: bool = False,
    ) -> dict[str, Tensor]:
        take = look_up_rows if sparse_gradients else look_up
        vectors = {ITEMS: items}
        for source in sources:
            if entered is not None and (source != IDS or self.tied):
                vectors[source] = entered[source]
            elif source == IDS:
                vectors[source] = take(self.id_table, items)
            else:
                vectors |= self._of_modality(source, items, take)
        return vectors

    def catalogue(self, sources: Sequence[str]) -> dict[str, Tensor]:
        """Vectors `(num_items + 1, dim)` by which all items are scored.

        Those of `scored`, up to the precision of a product; the gradient of a look-up would
        be summed row by row.
        """
        vectors = {ITEMS: ops.arange(self.num_items + 1, dtype="int32")}
        for source in sources:
            vectors[source] = (
                ops.convert_to_tensor(self.id_table) if source == IDS else self._whole(source)
            )
        return vectors

    def materialised(
        self, content: Content | None = None, rows: np.ndarray | None = None
    ) -> ItemTables:
        tables = {name: ops.convert_to_numpy(v) for name, v in self.row_variables().items()}
        return self.with_rows({k: v if rows is None else v[rows] for k, v in tables.items()})

    def with_rows(self, tables: Mapping[str, np.ndarray]) -> ItemTables:
        """The same encoder over other items.

        Args:
            tables: A value for each entry of `row_variables`, all of one length; row 0 is
                padding.
        """
        other = ItemTables.from_config(self.get_config() | {"num_items": len(tables[IDS]) - 1})
        other.build()
        for modality, bias in self._absent_bias.items():
            other._absent_bias[modality].assign(bias)
        for name, variable in other.row_variables().items():
            variable.assign(tables[name])
        return other

    def spaces(self) -> dict[str, Space]:
        vectors = self.catalogue(self.sources)
        present = self.row_variables()
        return {
            source: Space(
                ops.convert_to_numpy(vectors[source]),
                None if source == IDS else ops.convert_to_numpy(present[present_key(source)]) > 0.5,
            )
            for source in self.sources
        }

    def copy_known_rows(self, earlier: ItemTables, rows: np.ndarray, theirs: np.ndarray) -> None:
        """Take the rows of items from tables that were trained before.

        A new item keeps the row it has: random among the ids, the teacher's vector in a modality
        table; so does, in that table, an item that has gained or lost the modality since. A
        teacher that was fitted again has other axes, so those vectors are first turned by the
        orthogonal map that best takes the known items' vectors to their copied rows.
        """
        tables, before = (
            {name: np.array(ops.convert_to_numpy(v)) for name, v in encoder.row_variables().items()}
            for encoder in (self, earlier)
        )
        for name in self.id_tables():
            tables[name][rows] = before[name][theirs]
        for modality in self.modalities:
            flags = present_key(modality)
            alike = tables[flags][rows] == before[flags][theirs]
            here, known = rows[alike], before[modality][theirs[alike]]
            tables[modality] = tables[modality] @ _turn(tables[modality][here], known)
            tables[modality][here] = known
        for name, variable in (*self.id_tables().items(), *self._tables.items()):
            variable.assign(tables[name])

    def row_variables(self) -> dict[str, keras.Variable]:
        """Every variable that has a row per item.

        `ids`, `input_ids` where they are not tied, and each modality m
        `(num_items + 1, dim)`; `{m}_present` `(num_items + 1,)`, 1 where the item has
        the modality.
        """
        present = {present_key(m): flags for m, flags in self._present.items()}
        return {**self.id_tables(), **self._tables, **present}

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """`modality_tables`: the tables that start from the teacher, if they are tuned."""
        tables = list(self._tables.values())
        return {MODALITY_TABLES: tables} if tables and self.trainable_modalities else {}

    def id_tables(self) -> dict[str, keras.Variable]:
        """Those of `row_variables` that hold embeddings of ids."""
        own = {} if self.tied else {INPUT_IDS: self.input_id_table}
        return {IDS: self.id_table, **own}

    def modality_table(self, modality: str) -> keras.Variable:
        """The variable `(num_items + 1, dim)` of a modality.

        Raises:
            ValueError: if there is no such table.
        """
        self._check_modality(modality)
        return self._tables[modality]

    def set_modality_vectors(
        self,
        modality: str,
        vectors: np.ndarray,
        present: np.ndarray,
        initial_std: float | None = None,
    ) -> None:
        """Start a modality table from the teacher's condensed vectors.

        Args:
            modality: Name of the table.
            vectors: Floats `(num_items + 1, dim)`; rows of absent items are ignored.
            present: Bools `(num_items + 1,)`; row 0 is ignored.
            initial_std: Standard deviation that the present rows are scaled to,
                > 0; None keeps theirs.

        Raises:
            ValueError: for an unknown modality, another shape, or a value that is
                not finite.
        """
        self._check_modality(modality)
        vectors = np.array(vectors, "float32")
        present = np.array(present, bool)
        shape = (self.num_items + 1, self.dim)
        if vectors.shape != shape or present.shape != shape[:1]:
            raise ValueError(
                f"`vectors` must have shape {shape} and `present` {shape[:1]}. Received: "
                f"vectors.shape={vectors.shape}, present.shape={present.shape}."
            )
        present[PAD] = False
        if not np.isfinite(vectors[present]).all():
            raise ValueError(f"The `{modality}` vectors of present items must be finite.")
        if present.any():
            scale = float(vectors[present].std())
            if initial_std is not None and scale > 0:
                vectors = vectors * np.float32(initial_std / scale)
            vectors[~present] = vectors[present].mean(axis=0)
        else:
            vectors[:] = 0.0
        vectors[PAD] = 0.0
        self._tables[modality].assign(vectors)
        self._present[modality].assign(present.astype("float32"))

    def _of_modality(
        self, modality: str, items: Tensor, take: Callable[[keras.Variable, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Vectors of items in one modality, and which items have it."""
        rows = take(self._tables[modality], items)
        has = gather(self._present[modality], items)
        absent = ops.cast(1.0 - has, rows.dtype)[..., None]
        rows = rows + absent * ops.cast(self._absent_bias[modality], rows.dtype)
        real = ops.not_equal(items, PAD)
        return {modality: rows, present_key(modality): ops.logical_and(has > 0.5, real)}

    def _whole(self, modality: str) -> Tensor:
        rows = ops.convert_to_tensor(self._tables[modality])
        absent = 1.0 - ops.convert_to_tensor(self._present[modality])[:, None]
        # As a product of matrices: so is its gradient, and the arrays are large.
        return rows + ops.matmul(absent, ops.convert_to_tensor(self._absent_bias[modality])[None])

    def _initializer(self, name: str) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(
            stddev=self.initial_std, seed=derive_seed(self.seed, name)
        )

    def _check_modality(self, modality: str) -> None:
        if modality not in self.modalities:
            raise ValueError(
                f"There is no `{modality}` table. Tables: {', '.join(self.modalities) or 'none'}."
            )


def _turn(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The orthogonal matrix R that minimises the distance of `vectors` R to `rows`."""
    left, _, right = np.linalg.svd(vectors.T @ rows)
    return left @ right
