"""MMSR: a heterogeneous graph of items, images and texts."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.layers.graph_attention import DualAttention, RelationAttention, SoftmaxGate
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import seeded_part
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.ops.session_graph import edge_types, edges_among, node_of_position, session_steps
from kdsr_tf.schema import IDS, ITEMS, present_key
from kdsr_tf.types import Tensor

GRAPHS = ("heterogeneous", "ids_only")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class MMSR(Backbone):
    """Adaptive fusion of modalities on the graph of a sequence.

    `heterogeneous`: the nodes are each distinct item's id, image and text. Nodes of
    one type are joined by consecutive steps of the sequence (1 the node itself,
    2 forward, 3 backward, 4 both ways), nodes of one item by cross-type edges; an item
    without a modality lacks this node. A node starts from its embedding plus the mean
    embedding of the item's positions, layer-normalised per type, because ids and tuned
    features differ in scale (the authors rescale features to the range of ids). Then
    follow `num_layers` times `DualAttention`, and a softmax gate fuses an item's nodes.

    `ids_only` is what the authors of KDSR published: relation attention from W e_v
    gives h_v (`num_layers` times), and a softmax gate fuses [e_v, h_v, e_a, e_b].

    Simplified against the paper: modality nodes are an item's own tuned embeddings, as
    in KDSR, in place of codes that items share, so that only one cross-type edge joins
    two nodes; positions are added, not concatenated; each layer has its own weights.
    Every position gets the state of its item's node. Padding takes no part.

    Args:
        *args: Those of `Backbone`, with its keywords, call and result; the authors take
            `num_layers=1`, and `num_heads` is not used.
        graph: `heterogeneous` or `ids_only`.

    Raises:
        ValueError: for another graph.

    Example:
        >>> import numpy as np
        >>> backbone = MMSR(dim=4, max_length=3, modalities=("text",))
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> inputs = {"items": items, "ids": ids, "text": ids, "text_present": items > 3}
        >>> tuple(backbone(inputs).shape)
        (1, 3, 4)

    Reference:
        - [MMSR, arXiv 2308.15980](https://arxiv.org/abs/2308.15980).
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257).
    """

    causal = False
    uses_heads = False

    def __init__(self, *args, graph: str = "heterogeneous", **kwargs):
        super().__init__(*args, **kwargs)
        if graph not in GRAPHS:
            raise ValueError(
                f"`graph` must be one of {', '.join(GRAPHS)}. Received: graph={graph!r}."
            )
        self.graph = graph
        self._drops = [self.make_dropout(f"drop_{k}") for k in range(self.num_layers)]
        self._fusion: Any = None
        if self.modalities or graph == "ids_only":
            self._fusion = SoftmaxGate(self.dim, **seeded_part(self, "fusion"))
        if graph == "ids_only":
            self._entries = [
                seeded_dense(self, f"project_{k}", self.dim, use_bias=False)
                for k in range(self.num_layers)
            ]
            self._rounds = [
                RelationAttention(self.dropout, **seeded_part(self, f"round_{k}"))
                for k in range(self.num_layers)
            ]
        else:
            self._entries = [
                RowNorm(dtype=self.dtype_policy, name=f"{source}_norm")
                for source in (IDS, *self.modalities)
            ]
            types = 1 + len(self.modalities)
            self._rounds = [
                DualAttention(self.dim, types, self.dropout, **seeded_part(self, f"round_{k}"))
                for k in range(self.num_layers)
            ]

    def build(self, input_shape=None) -> None:
        fusion = [] if self._fusion is None else [self._fusion]
        for layer in (*self._entries, *self._rounds, *fusion):
            layer.build((None, None, self.dim))
        if self.graph == "heterogeneous":
            self.positions = self.make_positions()
        self.built = True

    def call(self, embeddings: dict[str, Tensor], training: bool | None = None) -> Tensor:
        items = embeddings[ITEMS]
        edges = edge_types(items)
        steps = session_steps(items, edges)
        nodes = ops.cast(node_of_position(items), self.compute_dtype)
        present = [real_positions(items)]
        present += [embeddings[present_key(modality)] for modality in self.modalities]
        sources = [embeddings[name] for name in (IDS, *self.modalities)]
        if self.graph == "ids_only":
            heard = self._hear_ids(sources[0], edges, steps, training)
            states = self._fusion([heard, *sources], [present[0], *present])
        else:
            states = self._hear_all(sources, nodes, edges, present, steps, training)
            states = self._fusion(states, present) if self._fusion else states[0]
        # A node is one thing: dropout must not tell its positions apart.
        return ops.matmul(nodes, states)

    def _hear_ids(self, states, edges, steps, training) -> Tensor:
        for project, attend, drop in zip(self._entries, self._rounds, self._drops, strict=True):
            states = project(states)
            states = attend(states, states, edges, steps=steps, training=training)
            states = drop(states, training=training)
        return states

    def _hear_all(self, states, nodes, edges, present, steps, training) -> list[Tensor]:
        position = self._mean_positions(nodes)
        states = [norm(state + position) for norm, state in zip(self._entries, states, strict=True)]
        edges = [edges_among(edges, exists) for exists in present]
        for attend, drop in zip(self._rounds, self._drops, strict=True):
            states = attend(states, edges, present, steps=steps, training=training)
            states = [drop(state, training=training) for state in states]
        return states

    def _mean_positions(self, nodes: Tensor) -> Tensor:
        """Mean embedding of all positions of each position's item."""
        same = ops.matmul(nodes, ops.transpose(nodes, (0, 2, 1)))
        count = ops.maximum(ops.sum(same, axis=-1, keepdims=True), 1)
        positions = ops.cast(self.positions, nodes.dtype)[: ops.shape(nodes)[1]]
        return ops.matmul(same, positions) / count
