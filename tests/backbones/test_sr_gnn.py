"""SR-GNN against its equations, written as loops over a drawn graph."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kdsr_tf.backbones.sr_gnn import SRGNN, connections

DIM = 3
# v1 v2 v3 v2 v4, the session of the paper's Figure 1 and 2, and one with padding.
ITEMS = np.array([[4, 7, 2, 7, 9], [5, 5, 3, 0, 0]], "int32")
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(10, DIM))
TEXTS = RNG.normal(size=(10, DIM))


def test_adjacencies_are_those_of_the_paper():
    incoming, outgoing = (np.asarray(matrix) for matrix in connections(ITEMS))
    np.testing.assert_array_equal(
        outgoing[0],
        [
            [0, 1, 0, 0, 0],
            [0, 0, 0.5, 0, 0.5],
            [0, 1, 0, 0, 0],
            [0, 0, 0.5, 0, 0.5],
            [0, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(
        incoming[0],
        [
            [0, 0, 0, 0, 0],
            [0.5, 0, 0.5, 0, 0],
            [0, 1, 0, 0, 0],
            [0.5, 0, 0.5, 0, 0],
            [0, 1, 0, 0, 0],
        ],
    )
    # Steps 5 -> 5 and 5 -> 3: the item is among its own followers.
    np.testing.assert_array_equal(outgoing[1, 0], [0.5, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(incoming[1, 2], [1, 0, 0, 0, 0])
    assert not outgoing[1, 3:].any()


def test_a_repeated_step_weighs_more():
    items = np.array([[1, 2, 1, 2, 1, 3]], "int32")
    outgoing = np.asarray(connections(items)[1])
    np.testing.assert_allclose(outgoing[0, 0], [0, 2 / 3, 0, 0, 0, 1 / 3], rtol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights_of(layer) -> dict:
    return {w.path.split("/", 1)[1]: np.asarray(w, "float64") for w in layer.weights}


def propagate(vectors, incoming, outgoing, w):
    """Eq. 1 to 5, one node at a time; `vectors` by node."""
    result = {}
    for node, own in vectors.items():
        before = sum((k * vectors[n] @ w["h_in"] for n, k in incoming[node].items()), np.zeros(DIM))
        after = sum((k * vectors[n] @ w["h_out"] for n, k in outgoing[node].items()), np.zeros(DIM))
        a = np.concatenate([before, after]) + w["b"]
        z = sigmoid(a @ w["w_z"] + w["b_z"] + own @ w["u_z"])
        r = sigmoid(a @ w["w_r"] + w["b_r"] + own @ w["u_r"])
        proposal = np.tanh(a @ w["w_o"] + w["b_o"] + (r * own) @ w["u_o"])
        result[node] = (1 - z) * own + z * proposal
    return result


def named(w: dict) -> dict:
    w = {name.removeprefix("step/"): weight for name, weight in w.items()}
    found = {"b": w["bias"], "u_o": w["propose/kernel"]}
    found["h_in"], found["h_out"] = np.split(w["connect/kernel"], 2, axis=1)
    found["w_z"], found["w_r"], found["w_o"] = np.split(w["hear/kernel"], 3, axis=1)
    found["b_z"], found["b_r"], found["b_o"] = np.split(w["hear/bias"], 3)
    found["u_z"], found["u_r"] = np.split(w["keep/kernel"], 2, axis=1)
    return found


def graph_of(history):
    incoming, outgoing = ({node: {} for node in history} for _ in range(2))
    steps = list(pairwise(history))
    for step in steps:
        before, after = step
        outgoing[before][after] = steps.count(step) / sum(s[0] == before for s in steps)
        incoming[after][before] = steps.count(step) / sum(s[1] == after for s in steps)
    return incoming, outgoing


def test_states_equal_the_equations():
    backbone = SRGNN(DIM, 5, num_layers=2, modalities=("text",), seed=3)
    embeddings = {
        "items": ITEMS,
        "ids": VECTORS[ITEMS].astype("float32"),
        "text": TEXTS[ITEMS].astype("float32"),
        "text_present": ITEMS > 0,
    }
    backbone(embeddings)
    backbone.set_weights([RNG.normal(size=w.shape) for w in backbone.get_weights()])
    found = np.asarray(backbone(embeddings))
    w = weights_of(backbone)
    for row, history in enumerate(ITEMS):
        history = [int(item) for item in history if item]
        vectors = {
            item: np.concatenate([VECTORS[item], TEXTS[item]]) @ w["fusion/dense/kernel"]
            + w["fusion/dense/bias"]
            for item in history
        }
        for _ in range(2):
            vectors = propagate(vectors, *graph_of(history), named(w))
        session = np.zeros(DIM)
        for item in history:
            hidden = sigmoid(
                vectors[history[-1]] @ w["attend_last/kernel"]
                + vectors[item] @ w["attend_each/kernel"]
                + w["attend_each/bias"]
            )
            session += (hidden @ w["weight/kernel"]) * vectors[item]
        for position, item in enumerate(history):
            expected = np.concatenate([vectors[item], session]) @ w["join/kernel"]
            np.testing.assert_allclose(found[row, position], expected, rtol=1e-4, atol=1e-5)


def test_both_positions_of_an_item_share_a_state_in_training_too():
    backbone = SRGNN(DIM, 5, dropout=0.5)
    ids = VECTORS[ITEMS].astype("float32")
    states = np.asarray(backbone({"items": ITEMS, "ids": ids}, training=True))
    np.testing.assert_array_equal(states[0, 1], states[0, 3])
    assert np.abs(states[0, 1] - states[0, 0]).max() > 1e-3
