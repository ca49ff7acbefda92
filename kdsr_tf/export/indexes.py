"""Nearest-neighbour indexes that live inside a SavedModel.

The layers are those of TensorFlow Recommenders, `ScaNN` and `BruteForce`. `BruteForce`
holds float32 only; a table of another precision is searched by `_RoundedLayer`. Two
things go straight to `scann_ops`: an index without a tree (`_ScannFlat`), and trying other
parameters than an index was built with (`_search`). What is private of both packages is in
`tfrs_internals`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kdsr_tf.errors import KDSRError

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"

_DIMENSIONS_PER_BLOCK = 2
"""Of a hash, without a tree as TFRS has it within leaves."""


if os.environ.get(_LEGACY_KERAS) not in ("1", "true", "True"):
    raise KDSRError(
        f"The export needs {_LEGACY_KERAS}=1 before TensorFlow is first imported. Received: "
        f"{_LEGACY_KERAS}={os.environ.get(_LEGACY_KERAS)!r}. Run `kdsr export` in a process "
        "of its own, or set the variable before Python starts."
    )

import tensorflow as tf  # noqa: E402
from scann import scann_ops  # noqa: E402

from kdsr_tf.export.index_parameters import (  # noqa: E402
    IndexParameters,
    choose_parameters,
    enlarge,
)
from kdsr_tf.export.tfrs_internals import ExactLayer, NamedState, ScannTree  # noqa: E402
from kdsr_tf.export.vector_table import VectorTable  # noqa: E402


def _search(
    state: NamedState, queries: tf.Tensor, k: int, parameters: IndexParameters
) -> tf.Tensor:
    """Rows, with other parameters than those the index was built with; −1 for none."""
    found = scann_ops.searcher_from_module(state).search_batched_parallel(
        queries,
        k,
        parameters.num_reordering_candidates,
        parameters.num_leaves_to_search or None,
    )
    return tf.where(tf.math.is_finite(found.distances), found.indices, -1)


class _ScannFlat(tf.Module):
    """A ScaNN searcher without a tree, called like a TFRS layer.

    `candidates` of the best by hashed vectors are scored exactly; all or more of them make a
    brute-force searcher.
    """

    def __init__(self, vectors: np.ndarray, retrieve: int, candidates: int) -> None:
        super().__init__()
        builder = scann_ops.builder(vectors, retrieve, "dot_product")
        if candidates < len(vectors):
            builder = builder.score_ah(_DIMENSIONS_PER_BLOCK).reorder(candidates)
        else:
            builder = builder.score_brute_force()
        self.searcher = NamedState(builder.build())

    def __call__(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        searcher = scann_ops.searcher_from_module(self.searcher)
        found = searcher.search_batched_parallel(queries, final_num_neighbors=k)
        return found.distances, found.indices


class _RoundedLayer(tf.Module):
    """Exhaustive search of a table that is not float32, called like a TFRS layer."""

    def __init__(self, table: VectorTable) -> None:
        super().__init__()
        self.table = table

    def __call__(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.math.top_k(self.table.scores(queries), k=k)


class Index(tf.Module):
    """Top items by dot product, of a fixed number, safe for any batch.

    Rows `0..M-1` of the table are items `1..M`, the ones that can be found. An empty batch
    gives an empty result (ScaNN alone fails or returns another shape), and an answer with
    fewer finds than `retrieve` ends with item 0 and score −inf.

    Args:
        layer: Called with queries `(batch, dim)`, at least one, and `k`, returns scores and
            rows `(batch, k)`; row −1 and score −inf where it found too little.
        table: The M vectors that are searched.
        retrieve: Items per query.
        hidden: float32 `(H, dim)`: vectors of items `M+1..M+H`, which are never found but
            may be asked about.
    """

    def __init__(
        self,
        layer: Any,
        table: VectorTable,
        retrieve: int,
        hidden: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.table = table
        self.retrieve = retrieve
        self.hidden = None if hidden is None or not len(hidden) else VectorTable(hidden)

    @property
    def num_items(self) -> int:
        """Number M of items that can be found."""
        return self.table.num_rows

    def rows(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors float32 `(..., dim)` of items int32 `(...)`, as scores are computed from them.

        Padding, and an item beyond those this index knows, gets the vector of some other item:
        mask what you do with it.
        """
        rows = self.table.rows(tf.clip_by_value(items - 1, 0, self.num_items - 1))
        if self.hidden is None:
            return rows
        place = tf.clip_by_value(items - 1 - self.num_items, 0, self.hidden.num_rows - 1)
        hidden = self.hidden.rows(place)
        return tf.where((items > self.num_items)[..., tf.newaxis], hidden, rows)

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Scores float32 `(batch, M)` of all items that can be found; column c is item c + 1."""
        return self.table.scores(queries)

    def search(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores float32 `(batch, retrieve)` in falling order, and items int32 of the same shape.

        Queries are finite float32 `(batch, dim)`.
        """
        batch = tf.shape(queries)[0]
        padded = tf.pad(queries, [[0, tf.cast(tf.equal(batch, 0), tf.int32)], [0, 0]])
        scores, rows = self.layer(padded, k=self.retrieve)
        scores, items = scores[:batch], tf.cast(rows, tf.int32)[:batch] + 1
        shape = (None, self.retrieve)
        return tf.ensure_shape(scores, shape), tf.ensure_shape(items, shape)


def exact_index(
    vectors: np.ndarray,
    retrieve: int,
    dtype: str = "float32",
    hidden: np.ndarray | None = None,
) -> Index:
    """An index of stock TensorFlow operations only.

    Args:
        vectors: float32 `(M, dim)`.
        retrieve: Items per query, at most M.
        dtype: Precision of the stored vectors: `float32`, `float16` or `int8`.
        hidden: As in `Index`.
    """
    if dtype != "float32":
        table = VectorTable(vectors, dtype)
        return Index(_RoundedLayer(table), table, retrieve, hidden)
    layer = ExactLayer(k=retrieve)
    layer.index(tf.constant(vectors))
    return Index(layer, VectorTable(layer.candidates), retrieve, hidden)


def scann_index(
    vectors: np.ndarray,
    retrieve: int,
    parameters: IndexParameters,
    hidden: np.ndarray | None = None,
) -> Index:
    """A ScaNN index; the arguments are those of `exact_index`."""
    if parameters.num_leaves == 0:
        layer = _ScannFlat(vectors, retrieve, parameters.num_reordering_candidates)
    else:
        layer = ScannTree(
            k=retrieve,
            distance_measure="dot_product",
            num_leaves=parameters.num_leaves,
            num_leaves_to_search=parameters.num_leaves_to_search,
            dimensions_per_block=_DIMENSIONS_PER_BLOCK,
            num_reordering_candidates=parameters.num_reordering_candidates,
        )
        layer.index(tf.constant(vectors))
    return Index(layer, VectorTable(layer.searcher.vectors), retrieve, hidden)


def _true_nearest(vectors: np.ndarray, queries: np.ndarray, depths: np.ndarray) -> list[np.ndarray]:
    """Items from 1 that exact search finds, per query as many as its depth says."""
    found = []
    for query, depth in zip(queries, depths, strict=True):
        found.append(np.argpartition(-(vectors @ query), depth - 1)[:depth] + 1)
    return found


def tuned_scann_index(
    vectors: np.ndarray,
    queries: np.ndarray,
    depths: np.ndarray,
    retrieve: int,
    recall_floor: float,
    num_leaves: int | None = None,
    num_leaves_to_search: int | None = None,
    num_reordering_candidates: int | None = None,
    hidden: np.ndarray | None = None,
) -> tuple[Index, IndexParameters, float]:
    """A ScaNN index that reaches a recall on sample queries.

    Starts from `choose_parameters` and enlarges what was not given until the recall lies
    half-way between the floor and 1, or everything is searched. Given values stay; the
    gate judges them.

    Args:
        vectors: float32 `(N, dim)`.
        queries: float32 `(batch, dim)`: real queries.
        depths: int `(batch,)`: how many of the true nearest count, per query.
        retrieve: Items per query, at most N.
        recall_floor: In `[0, 1]`.
        num_leaves: Overrides the choice; so do the next two.
        num_leaves_to_search: See `IndexParameters`.
        num_reordering_candidates: See `IndexParameters`.
        hidden: As in `Index`.

    Returns:
        The index, its parameters and its recall on the sample.
    """
    num_items = len(vectors)
    goal = (1 + recall_floor) / 2
    asked = tf.constant(queries)
    nearest = _true_nearest(vectors, queries, np.minimum(depths, retrieve))

    def larger(parameters: IndexParameters) -> IndexParameters:
        return enlarge(
            parameters,
            parameters.num_leaves if num_leaves_to_search is None else 0,
            num_items if num_reordering_candidates is None else 0,
        )

    def recall_of(items: tf.Tensor) -> float:
        rows = zip(nearest, items.numpy(), strict=True)
        return float(np.mean([np.isin(wanted, found).mean() for wanted, found in rows]))

    parameters = choose_parameters(
        num_items, retrieve, num_leaves, num_leaves_to_search, num_reordering_candidates
    )
    while True:
        index = scann_index(vectors, retrieve, parameters, hidden)
        recall = recall_of(index.search(asked)[1])
        # An index searches with what it was built with; to find the parameters, one is asked
        # with several, and the next is built with those that were enough.
        wider = parameters
        while recall < goal and larger(wider) != wider:
            wider = larger(wider)
            if recall_of(_search(index.layer.searcher, asked, retrieve, wider) + 1) >= goal:
                break
        index.layer.searcher.release()
        if wider == parameters:
            return index, parameters, recall
        parameters = wider
