"""`pyproject.toml` makes Keras' warning of a softmax over one entry an error in every test."""

import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.masking import softmax
from tests.gradients import value_and_gradients


@pytest.mark.parametrize("axis", [-1, 1])
def test_weights_are_those_of_keras(axis):
    scores = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_allclose(
        softmax(scores, axis), ops.softmax(scores, axis=axis), rtol=1e-5, atol=1e-7
    )


def test_one_entry_has_all_the_weight_and_its_score_no_gradient():
    scores = np.array([[-3.0], [4.0]], "float32")
    value, (found,) = value_and_gradients(lambda scores: ops.sum(softmax(scores)), scores)
    assert float(value) == 2
    np.testing.assert_array_equal(found, np.zeros((2, 1)))
