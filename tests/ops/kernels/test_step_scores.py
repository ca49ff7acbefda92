import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.kernels.step_scores import plain_step_scores, step_scores
from kdsr_tf.ops.session_graph import edge_types, node_of_position, session_steps
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)
DIM = 3
SEQUENCES = {
    "distinct": [[3, 1, 7, 5], [2, 4, 0, 0], [6, 0, 0, 0]],
    # Back and forth, twice the same way, one item after itself, the end of one sequence
    # the beginning of the next.
    "repeated": [[3, 1, 3, 7, 3, 7, 1], [7, 7, 7, 5, 7, 5, 1], [1, 2, 0, 0, 0, 0, 0]],
    "of one": [[4]],
    "empty": [[5, 5, 6], [0, 0, 0], [6, 5, 6]],
}


def plain(states, relations, items):
    """Products of all nodes; of the positions of one item the first has scores."""
    nodes = np.asarray(node_of_position(items))
    first = np.diagonal(nodes, axis1=1, axis2=2)[:, :, None]
    scores = plain_step_scores(ops.matmul(nodes, states), relations, edge_types(items))
    return first * scores


@pytest.mark.parametrize("sequences", SEQUENCES.values(), ids=SEQUENCES)
def test_equals_products_of_all_nodes_and_its_gradients(sequences):
    items = np.array(sequences, "int32")
    states = RNG.normal(size=(*items.shape, DIM)).astype("float32")
    relations = RNG.normal(size=(4, DIM)).astype("float32")
    weights = RNG.normal(size=(*items.shape, items.shape[1])).astype("float32")
    steps = session_steps(items, edge_types(items))

    def along(states, relations):
        return ops.sum(weights * step_scores(states, relations, steps, training=True))

    def expected(states, relations):
        return ops.sum(weights * plain(states, relations, items))

    np.testing.assert_allclose(
        step_scores(states, relations, steps), plain(states, relations, items), atol=1e-5
    )
    value, found = value_and_gradients(along, states, relations)
    theirs, gradients = value_and_gradients(expected, states, relations)
    np.testing.assert_allclose(value, theirs, rtol=1e-4, atol=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
