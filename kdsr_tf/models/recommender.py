"""The model that is served: an item encoder, a backbone, a prediction head and a scorer."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.items.item_encoder import ItemEncoder, ItemVectors
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.schema import ITEMS
from kdsr_tf.scoring.scorer import Scorer
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Recommender(keras.Model):
    """A sequential recommender of four parts, complete without what exists in training only.

    The item encoder turns items into vectors, the backbone turns those of a history into
    states, the head pools the states into a representation, and the scorer makes of it and
    of an item's vectors the two vectors whose inner product is a score. Item 0 is padding;
    histories are right-padded, oldest item first.

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
        for part in (self.item_encoder, self.backbone, self.head, self.scorer):
            part.build()
        self.built = True

    def call(self, items: Tensor, training: bool | None = None) -> Tensor:
        return self.encode(self.item_encoder(items), training=training)[1]

    def encode(
        self,
        vectors: ItemVectors,
        training: bool | None = None,
        windows: WindowGroups | None = None,
        sparse_gradients: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """States and user vectors at every position.

        Args:
            vectors: Result of `self.item_encoder(items)`.
            training: Whether to drop units.
            windows: Which rows are one sequence, if the items are `windows.rows`.
            sparse_gradients: As in `ItemEncoder`.

        Returns:
            States of the backbone and user vectors, both floats `(batch, length, dim)`, or
            of rows `(rows, dim)`.

        Raises:
            ValueError: if the histories are longer than `max_length`.
        """
        items = vectors[ITEMS]
        if windows is None:
            self.check_length(items)
            states = self.backbone(vectors, training=training)
        elif self.backbone.takes_rows:
            states = self.backbone(vectors, training=training, windows=windows)
        else:
            parts = windows.split_each(vectors)
            states = windows.join([self.backbone(part, training=training) for part in parts])
        pooled = self.head(states, items, windows=windows)
        return states, self._user_vectors(pooled, vectors, training, sparse_gradients)

    def encode_prefixes(
        self,
        vectors: ItemVectors,
        rows: Tensor | None,
        ends: Tensor,
        training: bool | None = None,
        sparse_gradients: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """States at every position, and user vectors of some prefixes, which costs less.

        Args:
            vectors: Result of `self.item_encoder(items)`.
            rows: Row of each prefix, ints `(prefixes,)`; None if each row has one.
            ends: Its last position, ints `(prefixes,)`; -1 for an empty history.
            training: Whether to drop units.
            sparse_gradients: As in `ItemEncoder`.

        Returns:
            States `(batch, length, dim)` and user vectors `(prefixes, dim)`.
        """
        items = vectors[ITEMS]
        self.check_length(items)
        states = self.backbone(vectors, training=training)
        pooled = self.head.at(states, rows, ends)
        last = None
        if self.scorer.reads_last:
            batch, length = ops.shape(items)
            if rows is None:
                rows = ops.arange(batch, dtype="int32")
            at = rows * length + ops.maximum(ends, 0)
            last = {
                key: ops.take(ops.reshape(values, (-1, *values.shape[2:])), at, axis=0)
                for key, values in vectors.items()
                if key in (ITEMS, *self.scorer.sources)
            }
        return states, self._user_vectors(pooled, last, training, sparse_gradients)

    def user_vectors(self, items: Tensor) -> Tensor:
        """User vectors of whole histories.

        Args:
            items: Ints `(batch, length)`.

        Returns:
            Floats `(batch, dim)`; zeros for an empty history.
        """
        ends = ops.sum(ops.cast(real_positions(items), "int32"), axis=1) - 1
        return self.user_vectors_at(items, None, ends)

    def user_vectors_at(self, items: Tensor, rows: Tensor | None, ends: Tensor) -> Tensor:
        """User vectors of some prefixes of histories.

        Args:
            items: Ints `(batch, length)`.
            rows: As in `encode_prefixes`.
            ends: As in `encode_prefixes`.

        Returns:
            Floats `(prefixes, dim)`.
        """
        return self.encode_prefixes(self.item_encoder(items), rows, ends, training=False)[1]

    def item_vectors(self) -> Tensor:
        """Vectors `(num_items + 1, dim)` by which items are scored; row 0 is padding."""
        return self.scorer.item_vectors(self.item_encoder.catalogue(self.scorer.sources))

    def item_vectors_of(self, items: Tensor, sparse_gradients: bool = False) -> Tensor:
        """Rows of `item_vectors`.

        Args:
            items: Ints of any shape.
            sparse_gradients: As in `ItemEncoder`.

        Returns:
            Floats, the shape of `items` and `dim`.
        """
        vectors = self.item_encoder.scored(
            items, self.scorer.sources, sparse_gradients=sparse_gradients
        )
        return self.scorer.item_vectors(vectors)

    def logits(self, user_vectors: Tensor) -> Tensor:
        """Scores of all items; padding has no column.

        Args:
            user_vectors: Floats `(..., dim)`.

        Returns:
            Floats `(..., num_items)`; column k belongs to item k + 1.
        """
        table = ops.cast(self.item_vectors()[1:], user_vectors.dtype)
        return ops.matmul(user_vectors, ops.transpose(table))

    def scores(self, items: Tensor) -> Tensor:
        """Scores of all items after whole histories.

        Args:
            items: Ints `(batch, length)`.

        Returns:
            Floats `(batch, num_items + 1)`; column 0, padding, is -inf.
        """
        logits = self.logits(self.user_vectors(items))
        return ops.pad(logits, [[0, 0], [1, 0]], constant_values=-float("inf"))

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

    def get_config(self) -> dict:
        parts = ("item_encoder", "backbone", "head", "scorer")
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in parts},
            "max_length": self.max_length,
        }

    @classmethod
    def from_config(cls, config: dict) -> Recommender:
        parts = ("item_encoder", "backbone", "head", "scorer")
        made = {name: keras.saving.deserialize_keras_object(config[name]) for name in parts}
        return cls(**{**config, **made})

    def _user_vectors(
        self,
        representations: Tensor,
        last: ItemVectors | None,
        training: bool | None,
        sparse_gradients: bool,
    ) -> Tensor:
        if last is not None and self.scorer.reads_last:
            last = self.item_encoder.scored(
                last[ITEMS], self.scorer.sources, entered=last, sparse_gradients=sparse_gradients
            )
        return self.scorer.user_vectors(representations, last, training=training)
