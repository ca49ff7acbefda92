"""SR-GNN: a gated graph network over the graph of a sequence."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.layers.gated_graph_step import GatedGraphStep
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_part
from kdsr_tf.ops.masking import at_last_real, zero_padding
from kdsr_tf.ops.session_graph import node_of_position, transition_counts
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SRGNN(Backbone):
    """Session graph, gated propagation, soft attention towards the last item.

    Nodes are the distinct items and start from x = W [e_v; e_a; e_b] + b. An edge
    weighs how often its step was taken, divided by all steps out of (A_out) or into
    (A_in) its node; the authors' code ignores how often. `num_layers` is the number of
    propagation steps, which share their weights, as in the paper. The read-out is
    α_i = qᵀ σ(W_1 v_n + W_2 v_i + c), s_g = Σ α_i v_i, s_h = W_3 [v_n; s_g], with v_n
    the last item and the sum over all positions.

    Every position gets W_3 [v_i; s_g], so that any prediction head fits. At the last
    real position, the only one with a target, this is s_h: the head `last` gives the
    paper's model. Simplified against the paper: nothing in the graph; features and
    dropout on x are new, weight decay and learning rate are those of the training.
    Padding takes no part.

    Arguments, call and result are those of `Backbone`; `num_layers` counts propagation steps
    (the paper takes 1), `dropout` acts on the inputs, and `num_heads` is not used.

    Example:
        >>> import numpy as np
        >>> backbone = SRGNN(dim=4, max_length=3)
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> tuple(backbone({"items": items, "ids": ids}).shape)
        (1, 3, 4)

    Reference:
        - [SR-GNN, arXiv 1811.00855](https://arxiv.org/abs/1811.00855).
    """

    causal = False
    uses_heads = False
    folded = "sr_gnn"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fusion = self.make_fusion()
        self._drop = self.make_dropout("drop_input")
        self._step = GatedGraphStep(self.dim, **seeded_part(self, "step"))
        self._attend_last = seeded_dense(self, "attend_last", self.dim, use_bias=False)
        self._attend_each = seeded_dense(self, "attend_each", self.dim)
        self._weight = seeded_dense(self, "weight", 1, use_bias=False)
        self._join = seeded_dense(self, "join", self.dim, use_bias=False)

    def build(self, input_shape=None) -> None:
        children = (self._fusion, self._step, self._attend_last, self._attend_each, self._weight)
        for layer in children:
            layer.build((None, None, self.dim))
        self._join.build((None, None, 2 * self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], training: bool | None = None) -> Tensor:
        items = embeddings["items"]
        nodes = node_of_position(items)
        incoming, outgoing = connections(items)
        states = self._drop(self._fusion(embeddings), training=training)
        # A node is one thing: dropout must not tell its positions apart.
        states = ops.matmul(ops.cast(nodes, states.dtype), states)
        for _ in range(self.num_layers):
            states = self._step(states, incoming, outgoing)
        states = zero_padding(states, items)
        last = at_last_real(states, items)[:, None, :]
        weights = self._weight(ops.sigmoid(self._attend_last(last) + self._attend_each(states)))
        session = ops.sum(weights * states, axis=1, keepdims=True)
        session = ops.broadcast_to(session, ops.shape(states))
        return self._join(ops.concatenate([states, session], axis=-1))


def connections(items: Tensor) -> tuple[Tensor, Tensor]:
    """The normalised adjacencies A_in and A_out of a session graph, of `items` `(batch, length)`.

    Two floats `(batch, length, length)`: weights of the nodes that precede, and of those that
    follow, each node. Rows add up to 1, or 0 where there are none.
    """
    return tuple(
        counts / ops.maximum(ops.sum(counts, axis=-1, keepdims=True), 1.0)
        for counts in transition_counts(items)
    )
