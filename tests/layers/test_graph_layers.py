"""Layers over session graphs, run through the harness."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf.layers.gated_graph_step import GatedGraphStep
from kdsr_tf.layers.graph_attention import DualAttention, RelationAttention, SoftmaxGate
from kdsr_tf.ops.session_graph import edge_types, transition_counts
from tests.harness import check_layer

ITEMS = np.array([[3, 5, 3, 7], [4, 1, 0, 0]], "int32")
STATES = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
OTHERS = STATES[::-1].copy()
PRESENT = [ITEMS > 0, ITEMS > 3]
EDGES = np.asarray(edge_types(ITEMS))
COUNTS = tuple(np.asarray(counts) for counts in transition_counts(ITEMS))


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (GatedGraphStep(6), (STATES, *COUNTS)),
        (RelationAttention(dropout=0.3), (STATES, OTHERS, EDGES)),
        (SoftmaxGate(6), ([STATES, OTHERS], PRESENT)),
        (DualAttention(6, 2, dropout=0.3), ([STATES, OTHERS], [EDGES] * 2, PRESENT)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_contract(layer, inputs):
    check_layer(layer, *inputs)
