"""Folded batch normalisations and paddings give what they gave."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from beam_pipelines.handlers.fold_normalization import fold

layers = keras.layers


def random_weights(network, seed=0):
    """Positive, so that variances are; far from a new normalisation's."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.uniform(0.2, 2.0, w.shape) for w in network.get_weights()])
    return network


def norms(network):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers)


def pads(network):
    return sum(isinstance(layer, layers.ZeroPadding2D) for layer in network.layers)


def read_twice(x):
    x = layers.Conv2D(3, 1)(x)
    return layers.Add()([x, layers.BatchNormalization()(x)])


def used_twice(x):
    conv = layers.Conv2D(2, 1)
    return layers.Concatenate()([layers.BatchNormalization()(conv(x)), conv(layers.ReLU()(x))])


@pytest.mark.parametrize(
    "build, left",
    [
        (lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3)(x)), 0),
        (lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3, use_bias=False)(x)), 0),
        (lambda x: layers.BatchNormalization(scale=False)(layers.DepthwiseConv2D(3)(x)), 0),
        (
            lambda x: layers.BatchNormalization(center=False, epsilon=0.1)(
                layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
            ),
            0,
        ),
        (lambda x: layers.BatchNormalization()(layers.Conv2D(4, 1, activation="relu")(x)), 1),
        (lambda x: layers.BatchNormalization()(x), 1),
        (lambda x: layers.BatchNormalization(axis=2)(layers.Conv2D(4, 1)(x)), 1),
        (read_twice, 1),
        (used_twice, 1),
    ],
)
def test_the_outputs_stay(build, left):
    image = keras.Input((6, 6, 2))
    output = layers.Conv2D(2, 1, name="last")(layers.ReLU(6.0)(build(image)))
    network = random_weights(keras.Model(image, output))
    before = network.get_weights()
    folded = fold(network)
    assert norms(folded) == left and (folded is network) == (left == 1)
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, 6, 6, 2)).astype(np.float32)
    expected = np.asarray(network(pictures, training=False))
    np.testing.assert_allclose(folded(pictures, training=False), expected, rtol=1e-4, atol=1e-4)
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def padded(zeros, convolution):
    return lambda x: convolution(layers.ZeroPadding2D(zeros)(x))


def padded_for_two(x):
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    return layers.Add()([layers.Conv2D(2, 3, strides=2)(x), layers.Conv2D(2, 3, strides=2)(x)])


ONE_AFTER = ((0, 1), (0, 1))


@pytest.mark.parametrize(
    "build, left",
    [
        (padded(ONE_AFTER, layers.DepthwiseConv2D(3, strides=2)), 0),
        (padded(ONE_AFTER, layers.Conv2D(3, 3, strides=2, activation="relu")), 0),
        (padded(1, layers.Conv2D(3, 3)), 0),
        (padded(((1, 2), (1, 2)), layers.DepthwiseConv2D(5, strides=2)), 0),
        # As much as `same` would add, on the other side; more; less; none of `same`.
        (padded(((1, 0), (1, 0)), layers.DepthwiseConv2D(3, strides=2)), 1),
        (padded(3, layers.Conv2D(3, 3)), 1),
        (padded(1, layers.Conv2D(3, 5)), 1),
        (padded(1, layers.Conv2D(3, 3, dilation_rate=2)), 1),
        (padded(1, layers.Conv2D(3, 3, padding="same")), 1),
        (padded_for_two, 1),
    ],
)
def test_paddings_that_a_convolution_adds_by_itself_are_left_to_it(build, left):
    image = keras.Input((6, 6, 2))
    network = random_weights(keras.Model(image, build(image)))
    folded = fold(network)
    assert pads(folded) == left and (folded is network) == (left == 1)
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, 6, 6, 2)).astype(np.float32)
    expected = np.asarray(network(pictures, training=False))
    np.testing.assert_allclose(folded(pictures, training=False), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
def test_a_padding_and_a_normalisation_of_one_convolution_are_both_folded(size):
    image = keras.Input((size, size, 2))
    zeros = (size % 2, 1)
    x = layers.ZeroPadding2D((zeros, zeros))(image)
    x = layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x)
    network = random_weights(keras.Model(image, layers.BatchNormalization()(x)))
    folded = fold(network)
    assert pads(folded) == norms(folded) == 0
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, size, size, 2)).astype(np.float32)
    expected = np.asarray(network(pictures, training=False))
    np.testing.assert_allclose(folded(pictures, training=False), expected, rtol=1e-4, atol=1e-4)
