"""Every exported layer, run through the harness."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf.backbones.gru4rec import GRU4Rec
from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.items.item_tables import ItemTables
from kdsr_tf.layers.auxiliaries import AttributePredictor, ItemTower
from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.layers.feature_fusion import FeatureFusion
from kdsr_tf.layers.non_invasive_attention import NonInvasiveAttention
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.transformer_block import TransformerBlock
from kdsr_tf.scoring.last_item_term import LastItemTerm
from tests.harness import check_layer

RNG = np.random.default_rng(0)
ITEMS = np.array([[3, 5, 2, 7], [4, 1, 0, 0]], "int32")
STATES = RNG.normal(size=(2, 4, 6)).astype("float32")
EMBEDDINGS = {
    "items": ITEMS,
    "ids": STATES,
    "text": STATES[::-1].copy(),
    "text_present": ITEMS > 2,
}
SOURCE = RNG.normal(size=(2, 4, 6)).astype("float32")
PAIRS = np.array([[0, 0, 1], [0, 1, 2]], "int32"), np.array([[1, 2, 2], [3, 3, 3]], "int32")


@pytest.mark.parametrize(
    ("layer", "inputs", "trains"),
    [
        (ItemTables(9, 6, ("image", "text")), (ITEMS,), True),
        (FeatureFusion(6, ("text",)), (EMBEDDINGS,), True),
        (FeatureFusion(6), (EMBEDDINGS,), False),
        (PredictionHead(6), (STATES, ITEMS), True),
        (PredictionHead(6, "last_sum", 3), (STATES, ITEMS), False),
        (PredictionHead(6, "last"), (STATES, ITEMS), False),
        (CorrelationHead(6, 5), (STATES, *PAIRS), True),
        (CorrelationHead(6, 5, "manhattan", score_scale=2.0), (STATES, *PAIRS), True),
        (CausalAttention(6, 2, dropout=0.3), (STATES,), True),
        (CausalAttention(6, 2, num_sources=1), (STATES, [SOURCE]), True),
        (NonInvasiveAttention(6, 2, num_sources=1, fusion="add"), (STATES, [SOURCE]), True),
        (NonInvasiveAttention(6, 2, num_sources=1, fusion="concat"), (STATES, [SOURCE]), True),
        (NonInvasiveAttention(6, 2, num_sources=1), (STATES, [SOURCE]), True),
        (LastItemTerm(0.3, unit=True), (STATES, STATES, [SOURCE]), True),
        (AttributePredictor(6, ("text",)), (EMBEDDINGS, STATES), True),
        (ItemTower(6, ("text",)), (EMBEDDINGS | {"text_present": ITEMS > 0}, STATES), True),
        (RowNorm(), (STATES,), True),
        (TransformerBlock(6, 2, dropout=0.3), (STATES,), True),
        (SASRec(6, 4, num_layers=1, modalities=("text",)), (EMBEDDINGS,), True),
        (GRU4Rec(6, 4, num_layers=1, modalities=("text",)), (EMBEDDINGS,), True),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_contract(layer, inputs, trains):
    check_layer(layer, *inputs, trains=trains)
