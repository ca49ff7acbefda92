"""Attention along the typed edges of a session graph."""

from __future__ import annotations

import math

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeding import derive_seed, seeded_dropout
from kdsr_tf.ops.kernels.step_scores import plain_step_scores, step_scores
from kdsr_tf.ops.masking import masked_softmax
from kdsr_tf.ops.session_graph import NUM_EDGE_TYPES, Steps
from kdsr_tf.types import Tensor

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
        seed: Of the vectors a_r and of dropout.

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
