"""Attention on the graph of a sequence, as MMSR and KDSR have it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import derive_seed, seeded_dropout, seeded_part
from kdsr_tf.ops.kernels.step_scores import plain_step_scores, step_scores
from kdsr_tf.ops.masking import masked_softmax, softmax
from kdsr_tf.ops.session_graph import NUM_EDGE_TYPES, Steps
from kdsr_tf.types import Tensor


def inner_products(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """l_sᵀ r_t of every s and t, position by position: `(..., number of left, number of right)`.

    Element by element: on a CPU a product of two matrices of a few rows costs more at every
    position, and the rows would have to be laid out side by side for it and back.

    Example:
        >>> import numpy as np
        >>> one, other = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
        >>> np.asarray(inner_products([one, other], [one, other])).tolist()
        [[[5.0, 11.0], [11.0, 25.0]]]
    """
    return ops.stack(
        [ops.stack([ops.sum(one * other, axis=-1) for other in right], -1) for one in left], -2
    )


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SoftmaxGate(ConfiguredLayer):
    """Σ_k g_k c_k over candidates c_k, with g = softmax_k(w ReLU(W c_k + b)).

    All candidates share W, b and w; a bias after w would cancel. Where no candidate
    is present, the result is finite and means nothing.

    Args:
        dim: Size of a candidate, > 0.
        seed: Seed of the kernels.

    Call arguments:
        candidates: List of floats `(batch, length, dim)`.
        present: Bools `(batch, length)` for each candidate: absent ones get no
            weight. None where all are present.

    Returns:
        Floats `(batch, length, dim)`.

    Example:
        >>> import numpy as np
        >>> states = np.ones((1, 3, 4), "float32")
        >>> tuple(SoftmaxGate(dim=4)([states, states]).shape)
        (1, 3, 4)

    Reference:
        - [MMSR, arXiv 2308.15980](https://arxiv.org/abs/2308.15980).
    """

    def __init__(self, dim: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.seed = seed
        self._hidden = seeded_dense(self, "hidden", dim, activation="relu")
        self._energy = seeded_dense(self, "energy", 1, use_bias=False)

    def build(self, candidates_shape=None, present_shape=None) -> None:
        self._hidden.build((None, None, self.dim))
        self._energy.build((None, None, self.dim))
        self.built = True

    def call(self, candidates: Sequence[Tensor], present: Sequence[Tensor] | None = None) -> Tensor:
        energies = [self._energy(self._hidden(candidate)) for candidate in candidates]
        energies = ops.concatenate(energies, axis=-1)
        if present is None:
            weights = softmax(energies)
        else:
            weights = masked_softmax(energies, ops.stack(present, axis=-1))
        return sum(weights[..., k : k + 1] * candidate for k, candidate in enumerate(candidates))


SLOPE = 0.1
"""Slope of the leaky ReLU below 0, as published."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class RelationAttention(ConfiguredLayer):
    """Each node attends to its neighbours, compared by the type of the edge.

    The score of an edge of type r from i to j is LeakyReLU(a_rᵀ (h_i ⊙ h_j)), a
    softmax over the neighbours of i gives its weights. With `steps` it is computed for
    edges alone; without, for any graph, as (a_r ⊙ h_i)ᵀ h_j, a matrix product per type,
    so that nothing of size length x length x dim exists. A node without edges gets a
    meaningless, finite result, and so does, with `steps`, a position that repeats an item.
    KDSR's published code also multiplies scores by a learnt factor per type; where
    positive, a_r contains it.

    Args:
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Seed of the vectors a_r and of dropout.

    Call arguments:
        states: What is compared, floats `(batch, length, dim)`.
        values: What is collected, floats `(batch, length, dim)`.
        edges: Result of `kdsr_tf.ops.session_graph.edge_types`, ints
            `(batch, length, length)`; entries may be 0 for want of a node.
        steps: Result of `kdsr_tf.ops.session_graph.session_steps`, or None.
        training: Whether to drop.

    Returns:
        Floats `(batch, length, dim)`.

    Example:
        >>> import numpy as np
        >>> states, edges = np.ones((1, 3, 4), "float32"), np.eye(3, dtype="int32")[None]
        >>> tuple(RelationAttention()(states, states, edges).shape)
        (1, 3, 4)

    Reference:
        - [MMSR, arXiv 2308.15980](https://arxiv.org/abs/2308.15980).
    """

    def __init__(self, dropout: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.seed = seed
        self._drop = seeded_dropout(self)

    def build(self, states_shape, values_shape=None, edges_shape=None, steps_shape=None) -> None:
        dim = states_shape[-1]
        bound = 1 / math.sqrt(dim)
        self.relations = self.add_weight(
            shape=(NUM_EDGE_TYPES, dim),
            initializer=keras.initializers.RandomUniform(
                -bound, bound, seed=derive_seed(self.seed, "relations")
            ),
            name="relations",
        )
        self.built = True

    def call(
        self,
        states: Tensor,
        values: Tensor,
        edges: Tensor,
        steps: Steps | None = None,
        training: bool | None = None,
    ) -> Tensor:
        relations = ops.cast(self.relations, states.dtype)
        if steps is None:
            scores = plain_step_scores(states, relations, edges)
        else:
            scores = step_scores(states, relations, steps, training)
        scores = ops.leaky_relu(scores, negative_slope=SLOPE)
        weights = self._drop(masked_softmax(scores, edges > 0), training=training)
        return ops.matmul(weights, values)


@keras.saving.register_keras_serializable(package="kdsr_tf")
class DualAttention(ConfiguredLayer):
    """Nodes of several types exchange states along a sequence and across an item.

    *Homogeneous*: nodes of one type attend along the typed edges of the sequence
    (`RelationAttention`). *Heterogeneous*: the nodes of one item attend to each other
    and to themselves, with queries, keys and values of a matrix per type; the score
    of t for s is LeakyReLU(q_sᵀ k_t / √d). A node is updated in two orders: like nodes
    first, or unlike nodes first. What the first attention collects is compared by the
    second one, which collects the untouched values V h (non-invasive); the update
    gate of a node chooses between the two results.

    Deviations from the authors' code: there queries, keys and values are one by
    mistake, so that the first order ignores its first attention; scores are not
    divided by √d; and like nodes compare V h, not h.

    Args:
        dim: Size of states, > 0.
        num_types: Types of nodes, > 0.
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Seed of kernels and dropout.

    Call arguments:
        states: List by type of floats `(batch, length, dim)`.
        edges: List by type of ints `(batch, length, length)`: the type of the edge
            between two nodes of this type, 0 where there is none.
        present: List by type of bools `(batch, length)`: whether the node exists.
        steps: Steps of the sequences, or None; see `RelationAttention`.
        training: Whether to drop.

    Returns:
        List by type of floats `(batch, length, dim)`; they mean nothing where there
        is no node.

    Example:
        >>> import numpy as np
        >>> states, edges = np.ones((1, 3, 4), "float32"), np.eye(3, dtype="int32")[None]
        >>> present = np.ones((1, 3), bool)
        >>> layer = DualAttention(dim=4, num_types=2)
        >>> [tuple(x.shape) for x in layer([states] * 2, [edges] * 2, [present] * 2)]
        [(1, 3, 4), (1, 3, 4)]

    Reference:
        - [MMSR, arXiv 2308.15980](https://arxiv.org/abs/2308.15980).
    """

    def __init__(self, dim: int, num_types: int, dropout: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_types = num_types
        self.dropout = dropout
        self.seed = seed
        unlike = range(num_types) if num_types > 1 else ()
        # Queries and keys stand side by side: the bound must not depend on their number.
        lecun = keras.initializers.LecunUniform
        self._compare = [
            seeded_dense(self, f"compare_{k}", 2 * dim, lecun, use_bias=False) for k in unlike
        ]
        self._value = [
            seeded_dense(self, f"value_{k}", dim, lecun, use_bias=False) for k in range(num_types)
        ]
        self._relations = RelationAttention(dropout, **seeded_part(self, "relations"))
        self._drop = seeded_dropout(self)
        self._gate = SoftmaxGate(dim, **seeded_part(self, "gate"))

    def build(
        self, states_shape=None, edges_shape=None, present_shape=None, steps_shape=None
    ) -> None:
        for layer in (*self._compare, *self._value, self._relations, self._gate):
            layer.build((None, None, self.dim))
        self.built = True

    def call(
        self,
        states: Sequence[Tensor],
        edges: Sequence[Tensor],
        present: Sequence[Tensor],
        steps: Steps | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        values = [dense(state) for dense, state in zip(self._value, states, strict=True)]
        like_first = self._unlike(
            self._like(states, states, edges, steps, training), values, present, training
        )
        unlike_first = self._like(
            self._unlike(states, values, present, training), values, edges, steps, training
        )
        return [self._gate(list(pair)) for pair in zip(like_first, unlike_first, strict=True)]

    def _like(self, compared, values, edges, steps, training) -> list[Tensor]:
        """Attention among nodes of one type."""
        return [
            self._relations(*node, steps=steps, training=training)
            for node in zip(compared, values, edges, strict=True)
        ]

    def _unlike(self, compared, values, present, training) -> list[Tensor]:
        """Attention among the nodes of one item."""
        if self.num_types == 1:
            return values
        scores = inner_products(self._projected(compared, 0), self._projected(compared, 1))
        scores = ops.leaky_relu(scores * self.dim**-0.5, negative_slope=SLOPE)
        weights = masked_softmax(scores, ops.stack(present, axis=-1)[:, :, None, :])
        weights = self._drop(weights, training=training)
        return [
            sum(weights[:, :, s, t : t + 1] * value for t, value in enumerate(values))
            for s in range(self.num_types)
        ]

    def _projected(self, states, part: int) -> list[Tensor]:
        """Queries (part 0) or keys (1): columns of kernels are cut faster than those of results."""
        columns = slice(part * self.dim, (part + 1) * self.dim)
        return [
            ops.matmul(
                state, ops.cast(ops.convert_to_tensor(dense.kernel), state.dtype)[:, columns]
            )
            for dense, state in zip(self._compare, states, strict=True)
        ]
