import keras
import numpy as np
import pytest

from kdsr_tf import schema
from kdsr_tf.ops import pairs
from kdsr_tf.teacher import arrays

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, 5, 4)).astype("float32")
STATES[0, 3] = 0.0
SHARED = schema.pair_positions(5)
OWN = tuple(np.stack([p[:6], p[4:]]) for p in SHARED)


def take(states, index):
    return states[:, index] if index.ndim == 1 else np.stack([states[b, index[b]] for b in (0, 1)])


@pytest.mark.parametrize("positions", [SHARED, OWN], ids=["shared", "per window"])
def test_pairs_equal_numpy(positions):
    first, second = (take(STATES, index) for index in positions)
    found = pairs.pair_differences(STATES, positions)
    np.testing.assert_allclose(found, first - second, atol=1e-6)
    for kind in ("cosine", "dot", "euclidean", "manhattan"):
        found = pairs.pair_correlation(STATES, positions, kind)
        np.testing.assert_allclose(found, arrays.correlation(first, second, kind), atol=1e-5)


def test_short_windows_use_a_prefix_of_the_pairs():
    length = keras.ops.convert_to_tensor(3)
    for found, expected in zip(
        pairs.packed_positions(length, 5), schema.pair_positions(3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_valid_pairs_need_two_different_items_with_the_modality():
    items = np.array([[4, 7, 4, 9, 0]])
    present = np.array([[1, 1, 1, 0, 1]], "uint8")
    found = np.asarray(pairs.valid_pairs(items, present, SHARED))[0]
    valid = {(int(i), int(j)) for i, j, ok in zip(*SHARED, found, strict=True) if ok}
    assert valid == {(0, 1), (1, 2)}


def test_drawn_pairs_are_distinct_valid_and_equally_likely():
    valid = np.zeros((2000, 10), bool)
    valid[:, [1, 4, 5, 8]] = True
    draws = np.asarray(pairs.draw_pairs(valid, 2, keras.random.SeedGenerator(0)))
    assert (draws[:, 0] != draws[:, 1]).all()
    counts = np.bincount(draws.ravel(), minlength=10)
    assert counts[~valid[0]].sum() == 0
    # Each of 4 pairs is drawn with probability 1/2: the standard deviation is 22.
    assert np.abs(counts[valid[0]] - 1000).max() < 5 * 22


def test_drawing_more_than_there_are_takes_every_valid_pair():
    valid = np.array([[False, True, True, False]])
    drawn = np.asarray(pairs.draw_pairs(valid, 3, keras.random.SeedGenerator(0)))
    assert drawn.shape == (1, 3)
    assert {1, 2} < set(drawn[0].tolist())
