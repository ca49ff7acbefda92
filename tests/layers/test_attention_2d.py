"""Attention over positions and sources against loops."""

from __future__ import annotations

import numpy as np

from kdsr_tf.layers.transformer_2d import Attention2D, TransformerBlock2D
from tests.harness import check_layer

DIM, HEADS, LENGTH, SOURCES = 4, 2, 3, 2
SIZE = DIM // HEADS
# The second row ends with padding; one real position lacks its second source.
PRESENT = np.array(
    [[[True, True], [True, False], [True, True]], [[True, True], [True, True], [False, False]]]
)
RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, LENGTH, SOURCES, DIM))


def by_source(values) -> list:
    return [values[:, :, source] for source in range(SOURCES)]


def oracle(row: int, w: dict) -> dict:
    """The result of every cell of a row, one head and one pair of cells at a time."""
    cells = [(p, s) for p in range(LENGTH) for s in range(SOURCES) if PRESENT[row, p, s]]
    projected = {
        (p, s): np.split(STATES[row, p, s] @ w[f"project_{s}/kernel"] + w[f"project_{s}/bias"], 3)
        for p, s in cells
    }
    outputs = {cell: [] for cell in cells}
    for head in range(HEADS):
        own = slice(head * SIZE, (head + 1) * SIZE)
        query, key, value = ({c: parts[k][own] for c, parts in projected.items()} for k in range(3))
        for p, s in cells:
            scores = []
            for other, source in cells:
                cell = query[p, s] @ key[other, source]
                sources = sum(
                    query[t, s] @ key[t, source]
                    for t in range(LENGTH)
                    if (t, s) in query and (t, source) in key
                )
                positions = sum(
                    query[p, r] @ key[other, r]
                    for r in range(SOURCES)
                    if (p, r) in query and (other, r) in key
                )
                scores.append(np.dot(w["alpha"], [cell, sources, positions]) / SIZE**0.5)
            weights = np.exp(scores) / np.exp(scores).sum()
            outputs[p, s].append(sum(k * value[c] for k, c in zip(weights, cells, strict=True)))
    return {
        (p, s): np.concatenate(heads) @ w[f"join_{s}/kernel"] + w[f"join_{s}/bias"]
        for (p, s), heads in outputs.items()
    }


def test_every_cell_equals_the_equation():
    layer = Attention2D(DIM, SOURCES, HEADS)
    inputs = by_source(STATES.astype("float32")), by_source(PRESENT)
    layer(*inputs)
    layer.set_weights([0.5 * RNG.normal(size=w.shape) for w in layer.get_weights()])
    found = [np.asarray(output) for output in layer(*inputs)]
    w = {v.path.split("/", 1)[1]: np.asarray(v, "float64") for v in layer.weights}
    for row in range(2):
        for (position, source), expected in oracle(row, w).items():
            np.testing.assert_allclose(found[source][row, position], expected, rtol=1e-5, atol=1e-5)


def test_contract():
    inputs = by_source(STATES.astype("float32")), by_source(PRESENT)
    check_layer(TransformerBlock2D(DIM, SOURCES, HEADS, dropout=0.3), *inputs)
