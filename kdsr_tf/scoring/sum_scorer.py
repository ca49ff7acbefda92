"""Scores by the sum of an item's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import keras
from keras import ops

from kdsr_tf.items.known_items import ItemVectors
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_part
from kdsr_tf.ops.correlation import unit_vectors
from kdsr_tf.schema import IDS, ITEMS, PAD
from kdsr_tf.scoring.last_item_term import LastItemTerm
from kdsr_tf.scoring.scorer import Scorer
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SumScorer(Scorer):
    """Scores items by P · (e + Σ_m W_m e_m), or by the cosine of the two.

    e is the vector of the first source, usually the id; W_m takes the vector of a further
    source m into its space.

    Args:
        dim: Width d of P and of the vectors of all sources, > 0.
        sources: Sources whose vectors are added up; the first has no projection.
        logit_scale: None scores by the inner product (the paper); a number, > 0, by the
            cosine times this number.
        last_item: Whether P gets a term of the last item alone; see `LastItemTerm`.
        dropout: Share of that term's units dropped in training, in [0, 1).
        seed: Seed of the projections and of dropout.

    Raises:
        ValueError: if there is no source, or for a scale that is not > 0.

    Example:
        >>> import numpy as np
        >>> scorer = SumScorer(dim=2, logit_scale=10.0)
        >>> items = {"ids": np.array([[3.0, 4.0]], "float32")}
        >>> [round(float(value), 3) for value in scorer.item_vectors(items)[0]]
        [6.0, 8.0]
    """

    def __init__(
        self,
        dim: int,
        sources: Sequence[str] = (IDS,),
        logit_scale: float | None = None,
        last_item: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not sources:
            raise ValueError("`sources` must name at least one source. Received: sources=().")
        if logit_scale is not None and logit_scale <= 0:
            raise ValueError(f"`logit_scale` must be > 0. Received: logit_scale={logit_scale}.")
        self.dim = dim
        self.sources = tuple(sources)
        self.logit_scale = logit_scale
        self.reads_last = self.last_item = last_item
        self.dropout = dropout
        self.seed = seed
        # If they are orthogonal, items that are alike in a source are alike in the score.
        initializer = getattr(keras.initializers, "Orthogonal" if last_item else "GlorotUniform")
        self._projections = {
            source: seeded_dense(self, f"output_{source}", dim, initializer, use_bias=False)
            for source in self.sources[1:]
        }
        self.last_item_term: Any = None
        if last_item:
            unit = logit_scale is not None
            self.last_item_term = LastItemTerm(dropout, unit, **seeded_part(self, "last_item_term"))

    def build(self, input_shape=None) -> None:
        for projection in self._projections.values():
            projection.build((None, self.dim))
        if self.last_item_term is not None:
            self.last_item_term.build()
        self.built = True

    def item_vectors(self, vectors: ItemVectors) -> Tensor:
        total = vectors[self.sources[0]]
        for projected in self._projected(vectors):
            # Outside a call ids have the precision of the variable, the others of the policy.
            total = ops.add(total, projected)
        return self._scaled(total, self.logit_scale)

    def user_vectors(
        self, representations: Tensor, last: ItemVectors | None, training: bool | None = None
    ) -> Tensor:
        representations = self._scaled(representations)
        if self.last_item_term is None:
            return representations
        last = cast(ItemVectors, last)  # as `reads_last` says
        first, features = last[self.sources[0]], self._projected(last)
        ended = self.last_item_term(representations, first, features, training=training)
        real = ops.cast(ops.not_equal(last[ITEMS], PAD), ended.dtype)[..., None]
        return self._scaled(ended * real)

    def folded(self, vectors: ItemVectors) -> tuple[SumScorer, Tensor]:
        first, features = vectors[self.sources[0]], self._projected(vectors)
        config = self.get_config() | {"sources": self.sources[:1]}
        other = SumScorer.from_config(config)
        # Names of variables begin with that of a model, also where a part is built alone.
        with keras.name_scope("served"):
            other.build()
        other.last_item_term.gain.assign(self.last_item_term.gain)
        other.last_item_term.id_gain.assign(1.0)
        return other, self.last_item_term.term(first, features)

    def _projected(self, vectors: ItemVectors) -> list[Tensor]:
        return [project(vectors[source]) for source, project in self._projections.items()]

    def _scaled(self, vectors: Tensor, length: float | None = 1.0) -> Tensor:
        """Vectors of one length if scores are cosines; zeros stay zeros."""
        if length is None or self.logit_scale is None:
            return vectors
        return unit_vectors(vectors, length)
