"""Private interfaces of TensorFlow Recommenders (read in 0.7.7) and ScaNN (read in 1.4.2).

TFRS leaves the name of a searcher empty, so two indexes in one SavedModel share one resource, and
the second silently answers with the items of the first. `NamedState` gives each searcher a name:
for that it calls `scann_ops.tensors_to_scann` with all tensors of a searcher, and `ScannTree`
sets it in place of what the TFRS layer keeps. `ExactLayer` shows the candidates of its layer, so
that they are stored once.

If a name is gone, an export fails before it writes anything, with the error of
`private_interfaces.require`. Then read `tensorflow_recommenders/layers/factorized_top_k.py` and
`scann/scann_ops/py/scann_ops.py`; where searchers have names of their own, the first two classes
can go.
"""

from __future__ import annotations

import math
import uuid

import tensorflow as tf
from scann import scann_ops
from tensorflow_recommenders.layers import factorized_top_k

from kdsr_tf.private_interfaces import require

READ_IN = "tensorflow-recommenders 0.7.7"


class NamedState(tf.Module):
    """A ScaNN searcher in variables, restored under a name no other searcher has.

    Args:
        searcher: As ScaNN has built it. It is deleted: TensorFlow would keep it, and its
            copy of the vectors, as long as the process lives.
    """

    def __init__(self, searcher: scann_ops.ScannSearcher) -> None:
        super().__init__()
        self.state = searcher.serialize_to_module()
        self.shared_name = f"scann-{uuid.uuid4()}"
        _delete(searcher.searcher_handle)

    @property
    def vectors(self) -> tf.Variable:
        """The vectors that are searched, as they were given."""
        return self.state.dataset

    @tf.function(input_signature=[], autograph=False)
    def recreate_handle(self) -> tf.Tensor:
        state = self.state
        return scann_ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self.shared_name,
        )

    def release(self) -> None:
        """Give the memory of the restored searcher back; the next search restores it."""
        _delete(self.recreate_handle())


class ScannTree(factorized_top_k.ScaNN):
    """The TFRS layer with a searcher of its own name.

    Where the searched leaves hold fewer than k items, ScaNN repeats row 0; here row −1 and
    score −inf fill the answer.
    """

    def index(self, candidates: tf.Tensor, identifiers: tf.Tensor | None = None) -> ScannTree:
        del identifiers  # Rows are what an `Index` asks for.
        require(self, "_build_searcher", "_serialized_searcher", "_k", read_in=READ_IN)
        self._serialized_searcher = NamedState(self._build_searcher(candidates))
        return self

    def call(self, queries: tf.Tensor, k: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        k = k or self._k
        scores, rows = super().call(queries, k)
        missing = [[0, 0], [0, k - tf.shape(scores)[1]]]
        scores, rows = tf.pad(scores, missing, constant_values=math.nan), tf.pad(rows, missing)
        found = tf.math.is_finite(scores)
        return tf.where(found, scores, -math.inf), tf.where(found, rows, -1)

    @property
    def searcher(self) -> NamedState:
        return self._serialized_searcher


class ExactLayer(factorized_top_k.BruteForce):
    """The TFRS layer with its candidates in reach, so that they are stored once."""

    @property
    def candidates(self) -> tf.Variable:
        require(self, "_candidates", read_in=READ_IN)
        return self._candidates


def _delete(handle: tf.Tensor) -> None:
    tf.raw_ops.DestroyResourceOp(resource=handle)
