from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.correlation import CORRELATIONS, correlation
from kdsr_tf.rules import Correlation
from kdsr_tf.teacher import pair_correlations
from tests.gradients import value_and_gradients
from tests.nearness import assert_near


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 3, 12)).astype("float32")
    first[0, 0] = 0
    second[1] = first[1]
    return first, second


@pytest.mark.parametrize(
    "kind, expected", [("cosine", 0.96), ("dot", 24), ("euclidean", 2**0.5), ("manhattan", 2)]
)
def test_values_by_hand(kind, expected):
    got = correlation(np.array([3.0, 4.0]), np.array([4.0, 3.0]), kind)
    assert float(got) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_numpy_twins_agree(vectors, kind):
    first, second = vectors
    got = keras.ops.convert_to_numpy(correlation(first, second, kind))
    assert_near(got, pair_correlations.correlation(first, second, kind))
    got = pair_correlations.correlation_vectors(first, second, 4, kind)
    assert got.shape == (5, 3, 4)
    for domain in range(4):
        part = slice(3 * domain, 3 * domain + 3)
        np.testing.assert_allclose(
            got[..., domain],
            pair_correlations.correlation(first[..., part], second[..., part], kind),
            atol=1e-5,
        )


def test_both_sides_know_the_same_kinds():
    assert tuple(CORRELATIONS) == get_args(Correlation)
    for function in (correlation, pair_correlations.correlation):
        with pytest.raises(ValueError, match="cosine, dot, euclidean, manhattan"):
            function(np.ones(2), np.ones(2), "pearson")


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_zero_vectors_and_zero_distances_have_finite_values_and_gradients(kind):
    first = np.float32([[0, 0], [0, 0], [1, 2], [3, 4], [1e-20, 0], [0, 0]])
    second = np.float32([[1, 2], [3, 4], [1, 2], [3, 4], [1, 0], [0, 0]])
    _, gradients = value_and_gradients(
        lambda left, right: ops.sum(correlation(left, right, kind)), first, second
    )
    assert np.isfinite(gradients).all()
    scores = ops.convert_to_numpy(correlation(first, second, kind))
    assert np.isfinite(scores).all()
    if kind == "cosine":
        np.testing.assert_array_equal(scores[[0, 1, 5]], 0)


def test_half_precision_does_not_overflow():
    big = np.full((1, 128), 60.0, "float16")
    assert float(correlation(big, -big, "cosine")[0]) == pytest.approx(-1, abs=1e-3)
