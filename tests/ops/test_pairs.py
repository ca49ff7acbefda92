import keras
import numpy as np
import pytest

from kdsr_tf import schema
from kdsr_tf.ops import pairs
from kdsr_tf.teacher import pair_correlations
from tests.nearness import assert_near

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
    assert_near(found, first - second)
    for kind in ("cosine", "dot", "euclidean", "manhattan"):
        found = pairs.pair_correlation(STATES, positions, kind)
        assert_near(found, pair_correlations.correlation(first, second, kind))


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


def test_count_of_valid_pairs():
    items = np.array([[4, 7, 4, 9, 0], [3, 3, 3, 0, 0], [0] * 5])
    present = np.array([[1, 1, 1, 0, 1], [1] * 5, [1] * 5], "uint8")
    np.testing.assert_array_equal(pairs.count_valid_pairs(items, present), [2, 0, 0])


def test_drawn_pairs_are_real_and_equally_likely():
    items = np.tile([1, 2, 3, 4, 5, 0], (3000, 1))
    drawn = pairs.draw_pairs(items, 4, keras.random.SeedGenerator(0))
    index = np.asarray(drawn.index)
    assert np.asarray(drawn.real).all()
    np.testing.assert_allclose(drawn.stands_for, 10 / 4)
    # Each of the 10 real pairs is drawn 4/10 times: the standard deviation is below 27.
    counts = np.bincount(index.ravel(), minlength=15)
    assert np.abs(counts[:10] - 1200).max() < 5 * 27
    assert counts[10:].sum() == 0
    other = pairs.draw_pairs(items, 4, keras.random.SeedGenerator(1))
    assert (np.asarray(other.index) != index).any()


def test_drawing_more_than_there_are_takes_every_pair_once():
    items = np.array([[1, 2, 3, 0], [1, 0, 0, 0], [0] * 4])
    drawn = pairs.draw_pairs(items, 5, keras.random.SeedGenerator(0))
    np.testing.assert_array_equal(drawn.real, [[1, 1, 1, 0, 0], [0] * 5, [0] * 5])
    np.testing.assert_array_equal(np.asarray(drawn.index)[0, :3], [0, 1, 2])
    np.testing.assert_array_equal(drawn.stands_for, [1, 1, 1])
