import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.correlation import unit_vectors
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("length", [1.0, 20.0])
def test_equals_the_quotient_and_its_gradient(length):
    vectors, weights = RNG.normal(size=(2, 3, 5, 4)).astype("float32")

    def plain(v):
        norm = ops.sqrt(ops.sum(v * v, axis=-1, keepdims=True))
        return ops.sum(weights * (length * v / norm))

    value, (found,) = value_and_gradients(
        lambda v: ops.sum(weights * unit_vectors(v, length)), vectors
    )
    theirs, (expected,) = value_and_gradients(plain, vectors)
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    lengths = np.linalg.norm(unit_vectors(vectors, length), axis=-1)
    np.testing.assert_allclose(lengths, length, rtol=1e-5)


def test_zero_stays_zero_and_passes_no_gradient():
    vectors = np.array([[0.0, 0.0], [1e-20, 0.0], [3.0, 4.0]], "float32")
    value, (found,) = value_and_gradients(lambda v: ops.sum(unit_vectors(v)), vectors)
    np.testing.assert_allclose(value, 1.4, rtol=1e-5)
    assert np.isfinite(found).all()
    assert not found[:2].any()
    assert found[2].any()
    assert unit_vectors(vectors.astype("float16")).dtype == "float32"
