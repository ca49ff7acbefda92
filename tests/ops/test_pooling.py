import numpy as np

from kdsr_tf.ops.pooling import prefix_mean, trailing_sum, weighted_mean

STATES = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


def test_prefix_mean_is_the_mean_of_each_prefix():
    expected = np.stack([STATES[:, : t + 1].mean(1) for t in range(5)], axis=1)
    np.testing.assert_allclose(prefix_mean(STATES), expected, rtol=1e-5, atol=1e-6)


def test_trailing_sum_takes_what_there_is():
    for size in (1, 2, 7):
        expected = [STATES[:, max(0, t + 1 - size) : t + 1].sum(1) for t in range(5)]
        found = trailing_sum(STATES, size)
        np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5, atol=1e-6)


def test_weighted_mean_of_nothing_is_zero():
    values = np.array([[1.0, 5.0], [3.0, 4.0]], "float32")
    weights = np.array([[1.0, 3.0], [0.0, 0.0]], "float32")
    np.testing.assert_allclose(weighted_mean(values, weights), [4.0, 0.0])
