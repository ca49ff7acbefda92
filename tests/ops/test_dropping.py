import keras
import numpy as np
import pytest

from kdsr_tf.layers.dropout import Dropout
from kdsr_tf.ops.dropping import STEPS, dropout_factors


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_as_many_as_asked_for_are_dropped_and_the_mean_stays(rate):
    factors = np.asarray(dropout_factors(200_001, rate, keras.random.SeedGenerator(3)))
    assert factors.shape == (200_001,)
    # Both numbers that come of one draw.
    for half in (factors[:100_000], factors[100_001:]):
        assert abs((half == 0).mean() - rate) < 0.006
        assert abs(half.mean() - 1.0) < 0.05
    scale = factors.max()
    assert set(np.unique(factors)) == {0.0, scale}
    assert abs(1.0 / scale - (1.0 - rate)) <= 0.5 / STEPS


def test_two_factors_of_one_draw_are_independent():
    factors = np.asarray(dropout_factors(200_000, 0.5, keras.random.SeedGenerator(5))) > 0
    first, second = factors[:100_000], factors[100_000:]
    assert abs((first & second).mean() - 0.25) < 0.01


def test_rates_beyond_what_can_be_drawn_are_the_nearest_that_can():
    seed = keras.random.SeedGenerator(0)
    assert np.asarray(dropout_factors(99_999, 1e-6, seed)).any()
    assert np.isfinite(np.asarray(dropout_factors(99_999, 1 - 1e-6, seed))).all()


def test_a_layer_draws_by_its_seed_and_goes_on_from_its_state():
    ones = np.ones((7, 5), "float32")
    layers = [Dropout(0.4, seed=seed) for seed in (1, 1, 2)]
    first, same, other = (np.asarray(layer(ones, training=True)) for layer in layers)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    state = layers[0].seed_generator.state.numpy()
    second = np.asarray(layers[0](ones, training=True))
    assert (second != first).any()
    layers[2].seed_generator.state.assign(state)
    np.testing.assert_array_equal(np.asarray(layers[2](ones, training=True)), second)
    np.testing.assert_array_equal(np.asarray(layers[0](ones, training=False)), ones)
