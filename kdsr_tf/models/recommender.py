"""The model that is served: an item encoder, a backbone, a prediction head and a scorer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.items.content import Content
from kdsr_tf.items.item_encoder import ItemEncoder
from kdsr_tf.items.known_items import ItemVectors, KnownItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.schema import IDS, ITEMS
from kdsr_tf.scoring.scorer import Scorer
from kdsr_tf.types import Tensor

PARTS = ("item_encoder", "backbone", "head", "scorer")
"""Attributes of a recommender."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Recommender(keras.Model):
    """A sequential recommender of four parts, complete without what exists in training only.

    The item encoder turns items into vectors, the backbone turns those of a history into
    states, the head pools the states into a representation, and the scorer makes of it and
    of an item's vectors the two vectors whose inner product is a score. Item 0 is padding;
    histories are right-padded, oldest item first.

    Where the items are computed from content, it is asked through `served`, which has computed
    them once; a training step brings the content of its batch.

    Args:
        item_encoder: Items to vectors; it knows `num_items`.
        backbone: Vectors of a history to states.
        head: States to representations.
        scorer: Representations and item vectors to what is compared.
        max_length: Longest history, > 0.

    Call arguments:
        items: Ints `(batch, length)`, `length <= max_length`.
        training: Whether to drop units.

    Returns:
        The user vector of the prefix that ends at each position, floats
        `(batch, length, dim)`; zeros at padding.

    Example:
        >>> import numpy as np
        >>> from kdsr_tf.backbones.sasrec import SASRec
        >>> from kdsr_tf.items.item_tables import ItemTables
        >>> from kdsr_tf.scoring.sum_scorer import SumScorer
        >>> parts = ItemTables(9, 4), SASRec(4, 5), PredictionHead(4), SumScorer(4)
        >>> recommender = Recommender(*parts, max_length=5)
        >>> tuple(recommender.scores(np.array([[3, 5, 0], [1, 0, 0]])).shape)
        (2, 10)
    """

    def __init__(
        self,
        item_encoder: ItemEncoder,
        backbone: Backbone,
        head: PredictionHead,
        scorer: Scorer,
        max_length: int,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.item_encoder = item_encoder
        self.backbone = backbone
        self.head = head
        self.scorer = scorer
        self.max_length = max_length
        self.num_items = item_encoder.num_items
        self.dim = scorer.dim
        self.build()

    def build(self, input_shape=None) -> None:
        # All shapes follow from the arguments: tables can be set before any call.
        for part in (getattr(self, name) for name in PARTS):
            if not part.built:
                part.build()
        self.built = True

    def call(self, items: Tensor, training: bool | None = None) -> Tensor:
        return self.encode(self.known_items(items), training=training)[1]

    def encode(
        self,
        vectors: ItemVectors,
        prefixes: tuple[Tensor | None, Tensor] | None = None,
        training: bool | None = None,
        sparse_gradients: bool = False,
        known: KnownItems | None = None,
    ) -> tuple[Tensor, Tensor]:
        """States at every position, and user vectors there or of some prefixes only.

        Args:
            vectors: Vectors of the items; see `KnownItems`.
            prefixes: Row of each prefix, ints `(prefixes,)`, or None if each row has one, and
                its last position, -1 for an empty history. None is every prefix, which costs
                more than some.
            training: Whether to drop units.
            sparse_gradients: As in `KnownItems`.
            known: Where the vectors are from; None for `known_items`.

        Returns:
            States of the backbone `(batch, length, dim)`, and user vectors `(batch, length, dim)`
            or `(prefixes, dim)`.

        Raises:
            ValueError: if the histories are longer than `max_length`.
        """
        items, last = vectors[ITEMS], None
        self.check_length(items)
        states = self.backbone(self.entering(vectors), training=training)
        pooled = self.head(states, items) if prefixes is None else self.head.at(states, *prefixes)
        if self.scorer.reads_last:
            known = self.known_items if known is None else known
            entered = vectors if prefixes is None else self._last_of(vectors, *prefixes)
            last = known.scored(
                entered[ITEMS], self.scorer.sources, entered, sparse_gradients=sparse_gradients
            )
        return states, self.scorer.user_vectors(pooled, last, training=training)

    def user_vectors(self, items: Tensor) -> Tensor:
        """User vectors `(batch, dim)` of whole histories; zeros for an empty one."""
        ends = ops.sum(ops.cast(real_positions(items), "int32"), axis=1) - 1
        return self.user_vectors_at(items, None, ends)

    def user_vectors_at(self, items: Tensor, rows: Tensor | None, ends: Tensor) -> Tensor:
        """User vectors `(prefixes, dim)` of some prefixes; see `encode`."""
        return self.encode(self.known_items(items), (rows, ends), training=False)[1]

    @property
    def known_items(self) -> KnownItems:
        """The items of the catalogue.

        Raises:
            ValueError: if they have not been computed.
        """
        if self.item_encoder.computed:
            raise ValueError(
                f"The items of this recommender are computed by {self.item_encoder.name}. Ask "
                "`served(content)`, which has computed them."
            )
        return self.item_encoder

    def entering(self, vectors: ItemVectors) -> ItemVectors:
        """Vectors as the backbone reads them: without ids, the first source takes their place."""
        if IDS in vectors:
            return vectors
        return {**vectors, IDS: vectors[self.item_encoder.sources[0]]}

    def item_vectors(self, known: KnownItems | None = None) -> Tensor:
        """Vectors by which items are scored, of the catalogue or of `known`; row 0 is padding.

        Returns:
            Floats `(num_items + 1, dim)`, or a row per item of `known`.
        """
        if known is None:
            known = self.known_items
        return self.scorer.item_vectors(known.catalogue(self.scorer.sources))

    def item_vectors_of(self, items: Tensor, sparse_gradients: bool = False) -> Tensor:
        """Rows of `item_vectors`: the shape of `items` and `dim`."""
        vectors = self.known_items.scored(
            items, self.scorer.sources, sparse_gradients=sparse_gradients
        )
        return self.scorer.item_vectors(vectors)

    def served(self, content: Content | None = None, rows: np.ndarray | None = None) -> Recommender:
        """What is evaluated, exported and served: the vectors of all items are looked up.

        Args:
            content: Content of all items, if they are computed.
            rows: The item that each row is to hold, 0 first; see `ItemEncoder.materialised`.

        Returns:
            A recommender with items of its own; the other parts are those of this one.
        """
        return self.with_items(self.item_encoder.materialised(content, rows))

    def with_items(self, item_encoder: ItemEncoder) -> Recommender:
        """The same backbone, head and scorer over other items."""
        return Recommender(item_encoder, self.backbone, self.head, self.scorer, self.max_length)

    def in_float32(self) -> Recommender:
        """A copy that computes in float32, whatever the precision of training."""
        config = _with_float32(keras.saving.serialize_keras_object(self))
        copy = keras.saving.deserialize_keras_object(config)
        copy.set_weights(self.get_weights())
        return copy

    def named_weights(self) -> dict[str, keras.Variable]:
        """All weights by part and path below it, whatever the names of model and process."""
        return {
            f"{part}/{weight.path.partition(f'{layer.name}/')[2]}": weight
            for part, layer in ((part, getattr(self, part)) for part in PARTS)
            for weight in layer.weights
        }

    def logits(self, user_vectors: Tensor, table: Tensor | None = None) -> Tensor:
        """Scores of all items; padding has no column.

        Args:
            user_vectors: Floats `(..., dim)`.
            table: Result of `item_vectors`; None for that of the catalogue.

        Returns:
            Floats `(..., num_items)`; column k belongs to item k + 1.
        """
        table = self.item_vectors() if table is None else table
        return ops.matmul(user_vectors, ops.transpose(ops.cast(table[1:], user_vectors.dtype)))

    def scores(self, items: Tensor) -> Tensor:
        """Scores of all items after whole histories `(batch, length)`.

        Returns:
            Floats `(batch, num_items + 1)`; column 0, padding, is -inf.
        """
        logits = self.logits(self.user_vectors(items))
        return ops.pad(logits, [[0, 0], [1, 0]], constant_values=-float("inf"))

    def check_length(self, items: Tensor) -> None:
        """Refuse histories whose length is known and more than `max_length`."""
        length = items.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"Histories must have at most `max_length` = {self.max_length} items. "
                f"Received: {length}. Keep the last ones."
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS},
            "max_length": self.max_length,
        }

    @classmethod
    def from_config(cls, config: dict) -> Recommender:
        made = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **made})

    def _last_of(self, vectors: ItemVectors, rows: Tensor | None, ends: Tensor) -> ItemVectors:
        """Vectors of the last items of some prefixes, in the sources that items are scored by."""
        batch, length = ops.shape(vectors[ITEMS])
        rows = ops.arange(batch, dtype="int32") if rows is None else rows
        at = rows * length + ops.maximum(ends, 0)
        return {
            key: gather(ops.reshape(values, (-1, *values.shape[2:])), at)
            for key, values in vectors.items()
            if key in (ITEMS, *self.scorer.sources)
        }


def _with_float32(config: Any) -> Any:
    """A configuration of Keras objects whose every dtype policy is float32."""
    if isinstance(config, list):
        return [_with_float32(value) for value in config]
    if not isinstance(config, dict):
        return config
    if str(config.get("class_name")).endswith("DTypePolicy"):
        return "float32"
    return {key: _with_float32(value) for key, value in config.items()}
