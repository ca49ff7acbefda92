"""MMSR against its equations, written as loops over graphs drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf.backbones.mmsr import MMSR
from kdsr_tf.layers.graph_attention import DualAttention
from kdsr_tf.ops.session_graph import edge_types, edges_among, session_steps

DIM = 4
A, B, C = 3, 1, 7
ITEMS = np.array([[A, B, A, C, 0], [B, B, 0, 0, 0]], "int32")
# Item B has no image. Everything else has everything.
IMAGE = (ITEMS > 0) & (ITEMS != B)
TEXT = ITEMS > 0
RNG = np.random.default_rng(0)
TABLES = {name: RNG.normal(size=(10, DIM)) for name in ("ids", "image", "text")}

# Who hears whom, by type of node, and along which edge:
# A -> B -> A -> C joins A and B both ways, and A to C.
DRAWN = {
    "ids": {A: {A: 1, B: 4, C: 2}, B: {B: 1, A: 4}, C: {C: 1, A: 3}},
    "image": {A: {A: 1, C: 2}, C: {C: 1, A: 3}},
    "text": {A: {A: 1, B: 4, C: 2}, B: {B: 1, A: 4}, C: {C: 1, A: 3}},
}


def embeddings(**changed) -> dict:
    inputs = {name: table[ITEMS].astype("float32") for name, table in TABLES.items()}
    return inputs | {"items": ITEMS, "image_present": IMAGE, "text_present": TEXT} | changed


def test_the_drawn_graph_is_the_one_of_the_layer():
    history = [int(item) for item in ITEMS[0] if item]
    for name, present in (("ids", ITEMS > 0), ("image", IMAGE), ("text", TEXT)):
        expected = np.zeros((5, 5), int)
        for position, item in enumerate(history):
            for neighbour, kind in DRAWN[name].get(item, {}).items():
                expected[position, history.index(neighbour)] = kind
        found = edges_among(edge_types(ITEMS), present)
        np.testing.assert_array_equal(found[0], expected)


def softmax(scores: dict) -> dict:
    total = sum(np.exp(score) for score in scores.values())
    return {key: np.exp(score) / total for key, score in scores.items()}


def leaky(x):
    return x if x > 0 else 0.1 * x


def like(compared, values, relations):
    """Attention of every node among its drawn neighbours."""
    result = {}
    for name, nodes in DRAWN.items():
        for item, edges in nodes.items():
            weights = softmax(
                {
                    other: leaky(
                        (relations[kind - 1] * compared[name, item] * compared[name, other]).sum()
                    )
                    for other, kind in edges.items()
                }
            )
            result[name, item] = sum(w * values[name, other] for other, w in weights.items())
    return result


def unlike(compared, values, kernels):
    """Attention of every node among the nodes of its item."""
    result = {}
    for name, item in compared:
        query = compared[name, item] @ kernels[name][:, :DIM]
        scores = {
            other: leaky(query @ (compared[other, item] @ kernels[other][:, DIM:]) / DIM**0.5)
            for other in DRAWN
            if (other, item) in compared
        }
        weights = softmax(scores)
        result[name, item] = sum(w * values[other, item] for other, w in weights.items())
    return result


def gate(candidates, w) -> np.ndarray:
    energies = {
        k: (np.maximum(c @ w["hidden/kernel"] + w["hidden/bias"], 0) @ w["energy/kernel"])[0]
        for k, c in enumerate(candidates)
    }
    return sum(weight * candidates[k] for k, weight in softmax(energies).items())


def weights_of(layer, prefix: str) -> dict:
    named = {w.path.split("/", 1)[1]: np.asarray(w, "float64") for w in layer.weights}
    return {k.removeprefix(prefix): w for k, w in named.items() if k.startswith(prefix)}


def randomise(layer) -> None:
    layer.set_weights([0.7 * RNG.normal(size=w.shape) for w in layer.get_weights()])


def test_a_round_of_dual_attention_equals_its_loops():
    layer = DualAttention(DIM, 3)
    present = [ITEMS > 0, IMAGE, TEXT]
    inputs = (
        [TABLES[name][ITEMS].astype("float32") for name in DRAWN],
        [edges_among(edge_types(ITEMS), exists) for exists in present],
        present,
    )
    layer(*inputs)
    randomise(layer)
    found = layer(*inputs)
    w = weights_of(layer, "")
    states = {(n, i): TABLES[n][i].astype("float32") for n, nodes in DRAWN.items() for i in nodes}
    values = {(n, i): s @ w[f"value_{list(DRAWN).index(n)}/kernel"] for (n, i), s in states.items()}
    kernels = {n: w[f"compare_{k}/kernel"] for k, n in enumerate(DRAWN)}
    relations = w["relations/relations"]
    like_first = unlike(like(states, states, relations), values, kernels)
    unlike_first = like(unlike(states, values, kernels), values, relations)
    choice = weights_of(layer, "gate/")
    for k, name in enumerate(DRAWN):
        for position, item in enumerate(ITEMS[0][:4]):
            if (name, item) in states:
                expected = gate([like_first[name, item], unlike_first[name, item]], choice)
                np.testing.assert_allclose(found[k][0, position], expected, rtol=1e-5, atol=1e-5)


def test_a_round_along_steps_equals_the_one_of_all_pairs():
    layer = DualAttention(DIM, 3)
    edges, present = edge_types(ITEMS), [ITEMS > 0, IMAGE, TEXT]
    states = [TABLES[name][ITEMS].astype("float32") for name in DRAWN]
    inputs = (states, [edges_among(edges, exists) for exists in present], present)
    layer(*inputs)
    randomise(layer)
    steps = session_steps(ITEMS, edges)
    for found, expected in zip(layer(*inputs, steps=steps), layer(*inputs), strict=True):
        for row, positions in ((0, [0, 1, 3]), (1, [0])):
            found_there = np.asarray(found)[row, positions]
            expected_there = np.asarray(expected)[row, positions]
            np.testing.assert_allclose(found_there, expected_there, rtol=1e-5, atol=1e-5)


def test_the_published_graph_equals_its_loops():
    backbone = MMSR(DIM, 5, num_layers=1, modalities=("image", "text"), graph="ids_only")
    backbone(embeddings())
    randomise(backbone)
    found = np.asarray(backbone(embeddings()))
    w = weights_of(backbone, "")
    relations, choice = w["round_0/relations"], weights_of(backbone, "fusion/")
    ids = {item: TABLES["ids"][item] @ w["project_0/kernel"] for item in DRAWN["ids"]}
    for position, item in enumerate(ITEMS[0][:4]):
        scores = {
            other: leaky((relations[kind - 1] * ids[item] * ids[other]).sum())
            for other, kind in DRAWN["ids"][item].items()
        }
        heard = sum(k * ids[other] for other, k in softmax(scores).items())
        sources = [TABLES[n][item] for n in DRAWN if item in DRAWN[n]]
        np.testing.assert_allclose(
            found[0, position], gate([heard, *sources], choice), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("graph", ["heterogeneous", "ids_only"])
def test_the_embedding_of_an_absent_modality_is_not_read(graph):
    backbone = MMSR(DIM, 5, modalities=("image", "text"), graph=graph)
    before = np.asarray(backbone(embeddings()))
    image = embeddings()["image"]
    image[~IMAGE] = 50.0
    np.testing.assert_allclose(backbone(embeddings(image=image)), before, rtol=1e-5, atol=1e-7)
    # The image of another item is.
    image[ITEMS == C] = 1.0
    assert np.abs(np.asarray(backbone(embeddings(image=image))) - before)[0].max() > 1e-3


@pytest.mark.parametrize("graph", ["heterogeneous", "ids_only"])
def test_positions_of_one_item_share_a_state_in_training_too(graph):
    backbone = MMSR(DIM, 5, modalities=("image", "text"), dropout=0.5, graph=graph)
    states = np.asarray(backbone(embeddings(), training=True))
    np.testing.assert_array_equal(states[0, 0], states[0, 2])
    assert np.abs(states[0, 0] - states[0, 1]).max() > 1e-3
    assert not states[0, 4].any()


def test_an_unknown_graph_is_refused():
    with pytest.raises(ValueError, match="must be one of heterogeneous, ids_only"):
        MMSR(DIM, 5, graph="items")
