import keras
import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.kernels.cross_entropy import (
    cross_entropy,
    plain_cross_entropy,
    plain_summed_cross_entropy,
    summed_cross_entropy,
)
from tests.gradients import value_and_gradients
from tests.nearness import assert_near

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(7,), (2, 3), (0,)])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_cross_entropy_of_given_logits_is_that_of_keras(shape, scale):
    logits = (scale * RNG.normal(size=(*shape, 9))).astype("float32")
    columns = RNG.integers(0, 9, shape)
    share = RNG.random(shape).astype("float32")
    value, found = value_and_gradients(lambda x: ops.sum(share * cross_entropy(x, columns)), logits)
    theirs, expected = value_and_gradients(
        lambda x: ops.sum(share * plain_cross_entropy(x, columns)), logits
    )
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    assert_near(found[0], expected[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_cross_entropy_of_half_precision_is_computed_in_float32(dtype):
    logits = ops.cast(RNG.normal(size=(5, 9)), dtype)
    columns = RNG.integers(0, 9, 5)
    losses = cross_entropy(logits, columns)
    expected = cross_entropy(ops.cast(logits, "float32"), columns)
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    np.testing.assert_array_equal(losses, expected)


@pytest.mark.parametrize("low", [-np.inf, -1e9])
def test_cross_entropy_of_masked_logits(low):
    logits = np.array([[1.0, low, 0.0], [low, low, 2.0]], "float32")
    columns = np.array([0, 2])
    value, (found,) = value_and_gradients(lambda x: ops.sum(cross_entropy(x, columns)), logits)
    own = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(value, -np.log(own), rtol=1e-5)
    assert_near(found, [[own - 1, 0, 1 - own], [0, 0, 0]])


@pytest.mark.parametrize("column", [-1, 4])
def test_cross_entropy_of_a_column_that_is_not_there_is_no_number(column):
    losses = np.asarray(cross_entropy(np.zeros((2, 4), "float32"), np.array([1, column])))
    assert np.isfinite(losses[0]) and np.isnan(losses[1])


@pytest.mark.parametrize("shape", [(3, 2), (1,), (6,)])
def test_cross_entropy_refuses_columns_of_another_shape(shape):
    with pytest.raises(ValueError, match="one column per row of the logits"):
        cross_entropy(np.zeros((2, 3, 4), "float32"), np.zeros(shape, "int32"))


@pytest.mark.parametrize("chunk_rows", [2, 7, None])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_equals_the_plain_loss_and_its_gradients(chunk_rows, scale):
    """Chunks that do not divide the rows, a row without a target, logits beyond exp's range."""
    representations = (scale * RNG.normal(size=(7, 4))).astype("float32")
    table = RNG.normal(size=(10, 4)).astype("float32")
    targets = np.array([4, 0, 1, 9, 4, 0, 3], "int32")
    value, found = value_and_gradients(
        lambda p, w: 0.5 * summed_cross_entropy(p, w, targets, chunk_rows=chunk_rows),
        representations,
        table,
    )
    theirs, expected = value_and_gradients(
        lambda p, w: 0.5 * plain_summed_cross_entropy(p, w, targets), representations, table
    )
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * scale)
    assert not found[0][1].any()


@pytest.mark.parametrize("count", [0, 3])
def test_without_any_target_loss_and_gradients_are_zero(count):
    rows, table = np.ones((count, 4), "float32"), np.ones((9, 4), "float32")
    targets = np.zeros(count, "int32")
    value, found = value_and_gradients(
        lambda p, w: summed_cross_entropy(p, w, targets), rows, table
    )
    assert value == 0.0
    assert [gradient.shape for gradient in found] == [(count, 4), (9, 4)]
    assert not any(gradient.any() for gradient in found)


@pytest.mark.parametrize("chunk_rows", [2, None])
def test_label_smoothing_is_that_of_the_plain_loss(chunk_rows):
    representations = RNG.normal(size=(7, 4)).astype("float32")
    table = RNG.normal(size=(10, 4)).astype("float32")
    targets = np.array([4, 0, 1, 9, 4, 0, 3], "int32")
    value, found = value_and_gradients(
        lambda p, w: 0.5 * summed_cross_entropy(p, w, targets, 0.3, chunk_rows),
        representations,
        table,
    )
    theirs, expected = value_and_gradients(
        lambda p, w: 0.5 * plain_summed_cross_entropy(p, w, targets, 0.3),
        representations,
        table,
    )
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
