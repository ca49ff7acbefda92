"""The served module: string ids in, string ids out.

Its signatures, their names and their dtypes are the public API of every SavedModel:

=====================  =======================================  ============================
signature              inputs                                   outputs
=====================  =======================================  ============================
`serving_default`      `history` string `[B, T]`                `items` string `[B, K]`,
                                                                `scores` float32 `[B, K]`
`recommend_with_seen`  `history` string `[B, T]`                the same
`similar_items`        `item_id` string `[B]`                   the same
`embed`                `history` string `[B, T]`                `embedding` float32 `[B, d]`
`score`                `history` string `[B, T]`,               `scores` float32 `[B, C]`
                       `candidates` string `[B, C]`
=====================  =======================================  ============================

Histories are oldest first. `""` and unknown ids are ignored wherever they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.export.indexes import Index
from kdsr_tf.schema import PAD

_NEVER = -math.inf

_HISTORY = tf.TensorSpec([None, None], tf.string, name=schema.HISTORY)
_ITEM_ID = tf.TensorSpec([None], tf.string, name=schema.ITEM_ID)
_CANDIDATES = tf.TensorSpec([None, None], tf.string, name=schema.CANDIDATES)


def log_frequency(train_counts: np.ndarray) -> np.ndarray:
    """Popularity scores, float32 `(N,)`: log of each item's share of the train interactions.

    An item that training never saw counts as half an interaction, so that it ranks last
    and still has a finite score.
    """
    counts = np.maximum(np.asarray(train_counts, np.float64), 0.5)
    return np.log(counts / counts.sum()).astype(np.float32)


class ServingModule(tf.Module):
    """A student, its vocabulary and its indexes behind string signatures.

    Seen items are excluded by mask: the index retrieves `k + max_exclusions` items, those
    of the history are removed, and a row left with fewer than `k` is ranked again over
    the whole catalogue inside the graph. An empty or wholly unknown history gets the
    popularity ranking, and so does a history whose vector is not finite. Where the
    catalogue is exhausted, an answer ends with item `""` and score −inf.

    Args:
        student: Has `user_vectors(items)`: int32 `(batch, length)`, right-padded with 0,
            length from 1 to `max_length`, to float32 `(batch, dim)`.
        index: Over the vectors of the first M items, those that may come back; row r is
            item r + 1. Items M + 1 to N are known in histories only.
        similar_index: Over the unit vectors of the same items, behind `similar_items`;
            the others are its hidden ones.
        item_ids: The N string ids, in the order of the rows.
        train_counts: int `(N,)`: train interactions per item.
        k: Items per answer, >= 1; may exceed N.
        max_length: Items the student encodes; of a longer history the last ones.
    """

    def __init__(
        self,
        student: Any,
        index: Index,
        similar_index: Index,
        item_ids: Sequence[str] | np.ndarray,
        train_counts: np.ndarray,
        k: int,
        max_length: int,
    ) -> None:
        super().__init__(name="serving")
        # A Keras variable would be saved twice, and TF Serving restores the copy that no
        # signature reads: TensorFlow's own variables are tracked, the student is not.
        self.student_variables: dict[str, tf.Variable] = {}
        for name, variable in map(_own_variable, student.variables):
            while name in self.student_variables:  # parts that were built alone
                name += "_"
            self.student_variables[name] = variable
        self._user_vectors = student.user_vectors
        self.index = index
        self.similar_index = similar_index
        self.k = k
        self.max_length = max_length
        self.num_items = len(item_ids)
        self.vocabulary = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(item_ids), tf.string),
                tf.range(1, self.num_items + 1, dtype=tf.int32),
            ),
            default_value=PAD,
        )
        self.item_ids = tf.Variable(["", *item_ids], trainable=False, name="item_ids")
        self.popularity = tf.Variable(
            log_frequency(train_counts)[: index.num_items], trainable=False, name="popularity"
        )

    @tf.function(input_signature=[_HISTORY], autograph=False)
    def recommend(self, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """The K best items that are not in the history."""
        items = self.vocabulary.lookup(history)
        return self._answer(*self._rank(items, excluded=items))

    @tf.function(input_signature=[_HISTORY], autograph=False)
    def recommend_with_seen(self, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """The K best items, those of the history included."""
        items = self.vocabulary.lookup(history)
        return self._answer(*self._rank(items, excluded=items[:, :0]))

    @tf.function(input_signature=[_ITEM_ID], autograph=False)
    def similar_items(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The K nearest items of an item by cosine, itself excluded."""
        item = self.vocabulary.lookup(item_id)
        known = item != PAD
        queries = self.similar_index.rows(item)
        nowhere = tf.fill([self.index.num_items], _NEVER)
        return self._answer(
            *self._search(self.similar_index, queries, known, item[:, tf.newaxis], nowhere)
        )

    @tf.function(input_signature=[_HISTORY], autograph=False)
    def embed(self, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """The user vector; zeros for an empty or wholly unknown history."""
        vectors, _ = self._encode(self.vocabulary.lookup(history))
        return {schema.EMBEDDING: vectors}

    @tf.function(input_signature=[_HISTORY, _CANDIDATES], autograph=False)
    def score(self, history: tf.Tensor, candidates: tf.Tensor) -> dict[str, tf.Tensor]:
        """The score of each candidate as the recommendations have it; −inf if it is unknown
        or may not come back."""
        tf.debugging.assert_equal(
            tf.shape(history)[0],
            tf.shape(candidates)[0],
            "`history` and `candidates` must have the same number of rows.",
        )
        vectors, usable = self._encode(self.vocabulary.lookup(history))
        items = self._findable(self.vocabulary.lookup(candidates))
        scores = tf.linalg.matvec(self.index.rows(items), vectors)
        popular = tf.gather(self.popularity, tf.maximum(items - 1, 0))
        scores = tf.where(usable[:, tf.newaxis], scores, popular)
        return {schema.SCORES: tf.where(items != PAD, scores, _NEVER)}

    def signatures(self) -> dict[str, Any]:
        """Signature names and functions, for `tf.saved_model.save`."""
        return {
            schema.SIGNATURE_RECOMMEND: self.recommend,
            schema.SIGNATURE_RECOMMEND_WITH_SEEN: self.recommend_with_seen,
            schema.SIGNATURE_SIMILAR_ITEMS: self.similar_items,
            schema.SIGNATURE_EMBED: self.embed,
            schema.SIGNATURE_SCORE: self.score,
        }

    def _answer(self, scores: tf.Tensor, items: tf.Tensor) -> dict[str, tf.Tensor]:
        return {schema.ITEMS: tf.gather(self.item_ids, items), schema.SCORES: scores}

    def _findable(self, items: tf.Tensor) -> tf.Tensor:
        """Padding in place of items that must never come back."""
        return tf.where(items <= self.index.num_items, items, PAD)

    def _compact(self, items: tf.Tensor) -> tf.Tensor:
        """The last `max_length` known items of each row, moved to the front.

        As long as the longest row needs: the student's work grows with the length.
        """
        known = items != PAD
        from_the_end = tf.cumsum(tf.cast(known, tf.int32), axis=1, reverse=True)
        longest = tf.clip_by_value(tf.reduce_max(from_the_end), 1, self.max_length)
        kept = tf.where(known & (from_the_end <= self.max_length))
        return tf.raw_ops.RaggedTensorToTensor(
            shape=[-1, longest],
            values=tf.gather_nd(items, kept),
            default_value=PAD,
            row_partition_tensors=[tf.shape(items, tf.int64)[0], kept[:, 0]],
            row_partition_types=["FIRST_DIM_SIZE", "VALUE_ROWIDS"],
        )

    def _encode(self, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """User vectors `(batch, dim)`, and which of them stand for something."""
        vectors = self._user_vectors(self._compact(items))
        usable = tf.reduce_any(items != PAD, axis=1)
        usable &= tf.reduce_all(tf.math.is_finite(vectors), axis=1)
        return tf.where(usable[:, tf.newaxis], vectors, 0.0), usable

    def _rank(self, items: tf.Tensor, excluded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        vectors, usable = self._encode(items)
        return self._search(self.index, vectors, usable, excluded, self.popularity)

    def _search(
        self,
        index: Index,
        queries: tf.Tensor,
        usable: tf.Tensor,
        excluded: tf.Tensor,
        otherwise: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and items `(batch, k)` in falling order of score.

        Args:
            index: What is searched.
            queries: `(batch, dim)`.
            usable: bool `(batch,)`: whether the row's query counts.
            excluded: int32 `(batch, any)`: items that must not come back.
            otherwise: `(M,)`: scores of rows whose query does not count.
        """
        scores, items = index.search(queries)
        valid = (items != PAD) & usable[:, tf.newaxis] & ~_contains(excluded, items)
        scores, items = _top(tf.where(valid, scores, _NEVER), items, self.k)
        incomplete = scores[:, -1] == _NEVER

        def completed() -> tuple[tf.Tensor, tf.Tensor]:
            places = tf.where(incomplete)
            rows = places[:, 0]
            similarity = index.scores(tf.gather(queries, rows))
            exact = tf.where(tf.gather(usable, rows)[:, tf.newaxis], similarity, otherwise)
            exact = tf.where(tf.math.is_nan(exact), _NEVER, exact)
            never = self._findable(tf.gather(excluded, rows))
            where = tf.cast(tf.where(never != PAD), tf.int32)
            column = tf.boolean_mask(never, never != PAD) - 1
            where = tf.stack([where[:, 0], column], axis=1)
            exact = tf.tensor_scatter_nd_update(exact, where, tf.fill(tf.shape(column), _NEVER))
            best_scores, best_items = _top(exact, None, self.k)
            return (
                tf.tensor_scatter_nd_update(scores, places, best_scores),
                tf.tensor_scatter_nd_update(items, places, best_items),
            )

        return tf.cond(tf.reduce_any(incomplete), completed, lambda: (scores, items))


def _own_variable(variable: Any) -> tuple[str, tf.Variable]:
    """Name below the student, and the TensorFlow variable behind one of Keras."""
    if isinstance(variable, tf.Variable):
        return variable.name, variable
    return variable.path.partition("/")[2].replace("/", "."), variable.value


def _contains(sets: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Whether each item is in its row's set; sets `(batch, any)`, items `(batch, n)`."""
    # A sorted row holds what has another first place in it than last; negated, because
    # `top_k` sorts downwards.
    ordered = -tf.math.top_k(sets, k=tf.shape(sets)[1]).values
    first = tf.raw_ops.LowerBound(sorted_inputs=ordered, values=-items)
    return first < tf.raw_ops.UpperBound(sorted_inputs=ordered, values=-items)


def _top(scores: tf.Tensor, items: tf.Tensor | None, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best per row, filled with item 0 and −inf; None: column c is item c + 1."""
    best, place = tf.math.top_k(scores, k=min(k, scores.shape[1]))
    found = place + 1 if items is None else tf.gather(items, place, batch_dims=1)
    items = tf.where(best > _NEVER, found, PAD)
    missing = [[0, 0], [0, k - best.shape[1]]]
    return tf.pad(best, missing, constant_values=_NEVER), tf.pad(items, missing)
