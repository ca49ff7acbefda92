"""The model that is served."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from kdsr_tf.backbones.catalogue import create_backbone
from kdsr_tf.layers.item_tables import IDS, ITEMS, ItemTables
from kdsr_tf.layers.last_item_term import LastItemTerm
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.ops.unit_vectors import unit_vectors
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.schema import PAD
from kdsr_tf.types import Tensor

MODALITY_TABLES = ("off", "frozen", "tuned")
OUTPUTS = ("ids", "fused")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Student(keras.Model):
    """A sequential recommender: item tables, a backbone and a prediction head.

    It is complete without a teacher: `KDSR` adds what exists in training
    only, so the served model costs what its backbone costs. Item 0 is padding,
    histories are right-padded, oldest item first.

    Args:
        num_items: Items N, > 0.
        dim: Size d of embeddings and representations, > 0.
        max_length: Longest history, > 0.
        backbone: Key of `kdsr_tf.backbones.BACKBONES`, or the dotted path of a class.
        num_layers: Blocks of the backbone, > 0.
        num_heads: Attention heads.
        dropout: Share of units dropped in training, in [0, 1).
        modalities: Modalities that have a table.
        modality_tables: `off` (ids only), `frozen` or `tuned`.
        pooling: `eq6`, `last_sum` or `last`; see `PredictionHead`.
        short_term: Items q of the short-term part, > 0.
        tied: Whether items enter the backbone by the id table that scores them.
        output: What P is compared with: `ids`, the e_v of an item (the paper), or `fused`,
            e_v + Σ_m W_m e_m over its modalities, which tells items apart that were
            rarely taken.
        logit_scale: None scores items by P · v (the paper); a number, > 0, by their cosine
            times this, as P and v then have length 1 and `logit_scale`.
        first_order: Whether P gets a term of the last item alone, in the space in which items
            are scored: what looks and reads like it comes first from the first step on; see
            `LastItemTerm`. It wants the `fused` output.
        seed: Of all weights and of dropout.
        backbone_options: Arguments that only this backbone has.

    Call arguments:
        items: Ints `(batch, length)`, `length <= max_length`.
        training: Whether to drop.

    Returns:
        The representation P of the prefix that ends at each position, floats
        `(batch, length, dim)`; zeros at padding.

    Raises:
        ValueError: for an unknown backbone, option, pooling, output or kind of tables.

    Example:
        >>> student = Student(num_items=9, dim=4, max_length=5)
        >>> histories = np.array([[3, 5, 0], [1, 0, 0]])
        >>> tuple(student(histories).shape), tuple(student.scores(histories).shape)
        ((2, 3, 4), (2, 10))

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.
    """

    def __init__(
        self,
        num_items: int,
        dim: int = 128,
        max_length: int = 50,
        backbone: str = "sasrec",
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.2,
        modalities: Sequence[str] = (),
        modality_tables: str = "tuned",
        pooling: str = "eq6",
        short_term: int = 2,
        tied: bool = True,
        output: str = "ids",
        logit_scale: float | None = None,
        first_order: bool = False,
        seed: int = 0,
        backbone_options: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if modality_tables not in MODALITY_TABLES:
            raise ValueError(
                f"`modality_tables` must be one of {', '.join(MODALITY_TABLES)}. "
                f"Received: modality_tables={modality_tables!r}."
            )
        if output not in OUTPUTS:
            raise ValueError(
                f"`output` must be one of {', '.join(OUTPUTS)}. Received: output={output!r}."
            )
        if logit_scale is not None and logit_scale <= 0:
            raise ValueError(f"`logit_scale` must be > 0. Received: logit_scale={logit_scale}.")
        self._config = {
            "num_items": num_items,
            "dim": dim,
            "max_length": max_length,
            "backbone": backbone,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "dropout": dropout,
            "modalities": list(modalities),
            "modality_tables": modality_tables,
            "pooling": pooling,
            "short_term": short_term,
            "tied": tied,
            "output": output,
            "logit_scale": logit_scale,
            "first_order": first_order,
            "seed": seed,
            "backbone_options": dict(backbone_options or {}),
        }
        self.num_items = num_items
        self.dim = dim
        self.max_length = max_length
        self.modality_tables = modality_tables
        self.modalities = () if modality_tables == "off" else tuple(modalities)
        policy = self.dtype_policy
        self.tables = ItemTables(
            num_items,
            dim,
            self.modalities,
            trainable_modalities=modality_tables == "tuned",
            tied=tied,
            seed=derive_seed(seed, "tables"),
            dtype=policy,
            name="tables",
        )
        self.backbone = create_backbone(
            backbone,
            backbone_options,
            dim=dim,
            max_length=max_length,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            modalities=self.modalities,
            seed=derive_seed(seed, "backbone"),
            dtype=policy,
            name="backbone",
        )
        self.head = PredictionHead(
            dim, pooling, short_term, derive_seed(seed, "head"), dtype=policy, name="head"
        )
        self.logit_scale = logit_scale
        self.seed = seed
        # Orthogonal, what is alike in a modality is as alike where items are scored.
        initializer = getattr(keras.initializers, "Orthogonal" if first_order else "GlorotUniform")
        self._output = {
            modality: seeded_dense(self, f"output_{modality}", dim, initializer, use_bias=False)
            for modality in (self.modalities if output == "fused" else ())
        }
        self.last_item_term = (
            LastItemTerm(
                dropout,
                logit_scale is not None,
                derive_seed(seed, "last_item_term"),
                dtype=policy,
                name="last_item_term",
            )
            if first_order
            else None
        )
        self.build()

    def build(self, input_shape=None) -> None:
        # All shapes follow from the arguments: tables can be set before any call.
        self.tables.build()
        self.backbone.build()
        self.head.build()
        for dense in self._output.values():
            dense.build((None, self.dim))
        if self.last_item_term is not None:
            self.last_item_term.build()
        self.built = True

    def call(self, items: Tensor, training: bool | None = None) -> Tensor:
        return self.represent(self.tables(items), training=training)[1]

    def represent(
        self,
        embeddings: dict[str, Tensor],
        training: bool | None = None,
        windows: WindowGroups | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and P at every position, from the result of `tables`.

        Args:
            embeddings: Result of `self.tables(items)`.
            training: Whether to drop.
            windows: Which rows are one sequence, where the items are `windows.rows`.

        Returns:
            States of the backbone and P, both floats `(batch, length, dim)`, or of rows
            `(rows, dim)`.

        Raises:
            ValueError: if the histories are longer than `max_length`.
        """
        items = embeddings[ITEMS]
        if windows is None:
            self.check_length(items)
            states = self.backbone(embeddings, training=training)
        elif self.backbone.takes_rows:
            states = self.backbone(embeddings, training=training, windows=windows)
        else:
            parts = windows.split_each(embeddings)
            states = windows.join([self.backbone(part, training=training) for part in parts])
        representations = self._scaled(self.head(states, items, windows=windows))
        return states, self._after(embeddings, representations, training)

    def user_vectors(self, items: Tensor) -> Tensor:
        """P of whole histories.

        Args:
            items: Ints `(batch, length)`.

        Returns:
            Floats `(batch, dim)`; zeros for an empty history.
        """
        ends = ops.sum(ops.cast(real_positions(items), "int32"), axis=1) - 1
        return self.vectors_at(items, None, ends)

    def vectors_at(self, items: Tensor, windows: Tensor | None, ends: Tensor) -> Tensor:
        """P at some positions alone, which costs less than a call.

        Args:
            items: Ints `(batch, length)`.
            windows: Row of each position, ints `(positions,)`; None where each row has one.
            ends: Its place in the row, ints `(positions,)`; -1 for an empty history.

        Returns:
            Floats `(positions, dim)`.
        """
        return self.represent_at(self.tables(items), windows, ends, training=False)[1]

    def represent_at(
        self,
        embeddings: dict[str, Tensor],
        windows: Tensor | None,
        ends: Tensor,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states, and P at some positions alone; see `represent` and `vectors_at`."""
        self.check_length(embeddings[ITEMS])
        states = self.backbone(embeddings, training=training)
        representations = self._scaled(self.head.at(states, windows, ends))
        if self.last_item_term is None:
            return states, representations
        batch, length = ops.shape(embeddings[ITEMS])
        if windows is None:
            windows = ops.arange(batch, dtype="int32")
        at = windows * length + ops.maximum(ends, 0)
        last = {
            key: ops.take(ops.reshape(values, (-1, *values.shape[2:])), at, axis=0)
            for key, values in embeddings.items()
            if key in (ITEMS, IDS, *self._output)
        }
        return states, self._after(last, representations, training)

    def last_item_table(self) -> Tensor:
        """What each item adds to P as the last one, before any scaling.

        Returns:
            Floats `(num_items + 1, dim)`.
        """
        ids = ops.convert_to_tensor(self.tables.id_table)
        features = {m: self.tables.whole(m) for m in self._output}
        return self.last_item_term.term(ids, self._projected(features))

    def output_table(self) -> Tensor:
        """Vectors `(num_items + 1, dim)` whose product with P is an item's score."""
        ids = ops.convert_to_tensor(self.tables.id_table)
        return self._scored_by(ids, {m: self.tables.whole(m) for m in self._output})

    def output_rows(self, items: Tensor) -> Tensor:
        """Rows of `output_table`.

        Args:
            items: Ints of any shape.

        Returns:
            Floats, the shape of `items` and `dim`.
        """
        ids = self.tables.scored_ids(items)
        return self._scored_by(ids, {m: self.tables.look_up(m, items)[0] for m in self._output})

    def logits(self, representations: Tensor) -> Tensor:
        """Scores of all items; padding has no column.

        Args:
            representations: P, floats `(..., dim)`.

        Returns:
            Floats `(..., num_items)`; column k belongs to item k + 1.
        """
        table = ops.cast(self.output_table()[1:], representations.dtype)
        return ops.matmul(representations, ops.transpose(table))

    def scores(self, items: Tensor) -> Tensor:
        """Scores of all items after whole histories.

        Args:
            items: Ints `(batch, length)`.

        Returns:
            Floats `(batch, num_items + 1)`; column 0, padding, is -inf.
        """
        logits = self.logits(self.user_vectors(items))
        return ops.pad(logits, [[0, 0], [1, 0]], constant_values=-float("inf"))

    def modality_table(self, modality: str) -> keras.Variable:
        """The variable `(num_items + 1, dim)` of a modality."""
        return self.tables.modality_table(modality)

    def set_modality_vectors(
        self,
        modality: str,
        vectors: np.ndarray,
        present: np.ndarray,
        initial_std: float | None = None,
    ) -> None:
        """Start a modality table from the teacher; see `ItemTables.set_modality_vectors`."""
        self.tables.set_modality_vectors(modality, vectors, present, initial_std)

    def check_length(self, items: Tensor) -> None:
        """Refuse histories that are too long.

        Args:
            items: Ints `(batch, length)`.

        Raises:
            ValueError: if `length` is known and more than `max_length`.
        """
        length = items.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"Histories must have at most `max_length` = {self.max_length} items. "
                f"Received: {length}. Keep the last ones."
            )

    @classmethod
    def from_config(cls, config: dict) -> Student:
        """As Keras does it, but a saved file does not choose what is imported."""
        module, _, _ = config.get("backbone", "").rpartition(".")
        if module and module not in sys.modules:
            raise ValueError(
                f"This student's backbone is in the module `{module}`. If you trust the file, "
                f"import that module before you load it."
            )
        return super().from_config(config)

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}

    def _scored_by(self, ids: Tensor, modalities: dict[str, Tensor]) -> Tensor:
        """What P is compared with, of items with these vectors."""
        for vectors in self._projected(modalities):
            # Outside a call ids have the precision of the variable, the others of the policy.
            ids = ops.add(ids, vectors)
        return self._scaled(ids, self.logit_scale)

    def _after(
        self, last: dict[str, Tensor], representations: Tensor, training: bool | None
    ) -> Tensor:
        """P of prefixes that end with the items of these embeddings."""
        if self.last_item_term is None:
            return representations
        # Looked up once, where the ids that enter are those that score.
        tied, items = self.tables.tied, last[ITEMS]
        ids = last[IDS] if tied else self.tables.scored_ids(items)
        features = self._projected({m: last[m] for m in self._output})
        ended = self.last_item_term(representations, ids, features, training=training)
        real = ops.cast(ops.not_equal(items, PAD), ended.dtype)[..., None]
        return self._scaled(ended * real)

    def _projected(self, modalities: dict[str, Tensor]) -> list[Tensor]:
        """Vectors of modalities in the space in which items are scored."""
        return [self._output[modality](vectors) for modality, vectors in modalities.items()]

    def _scaled(self, vectors: Tensor, length: float | None = 1.0) -> Tensor:
        """Vectors of one length where scores are cosines; zeros stay zeros."""
        return vectors if self.logit_scale is None else unit_vectors(vectors, length)
