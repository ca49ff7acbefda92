import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.window_groups import WindowGroups
from tests.gradients import value_and_gradients

ITEMS = np.array([[4, 2, 0, 0, 0], [7, 0, 0, 0, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]], "int32")
PAIRS = ((0, 0, 1), (2, 0, 4), (2, 1, 3), (2, 3, 4), (2, 1, 3))
"""Window and two of its positions; one pair twice."""


@pytest.mark.parametrize("split", [True, False])
def test_products_of_pairs_and_their_gradient_are_those_of_gathered_rows(split):
    rng = np.random.default_rng(0)
    groups = WindowGroups(ITEMS, 5, split)
    starts, squares, lengths = (
        np.asarray(part) for part in (groups.starts, groups.squares, groups.lengths)
    )
    window, first, second = np.array(PAIRS).T
    places = (squares[window] + first * lengths[window] + second).astype("int32")
    states = rng.normal(size=(len(np.asarray(groups.rows(ITEMS))), 3)).astype("float32")
    share = rng.normal(size=len(PAIRS)).astype("float32")

    def plain(values):
        one, other = (ops.take(values, starts[window] + at, axis=0) for at in (first, second))
        return ops.sum(share * ops.sum(one * other, axis=-1))

    value, found = value_and_gradients(
        lambda values: ops.sum(share * groups.products(values, ops.convert_to_tensor(places))),
        states,
    )
    expected, theirs = value_and_gradients(plain, states)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    read = np.unique(np.concatenate([starts[window] + first, starts[window] + second]))
    np.testing.assert_allclose(found[0][read], theirs[0][read], rtol=1e-5, atol=1e-6)
    rest = np.setdiff1d(np.arange(len(states)), read)
    assert not found[0][rest].any()
