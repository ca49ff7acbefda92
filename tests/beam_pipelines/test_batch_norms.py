"""Folded batch normalisations give what they gave."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from beam_pipelines.handlers.batch_norms import fold_batch_norms

layers = keras.layers


def random_weights(network, seed=0):
    """Positive, so that variances are; far from a new normalisation's."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.uniform(0.2, 2.0, w.shape) for w in network.get_weights()])
    return network


def norms(network):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers)


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
    folded = fold_batch_norms(network)
    assert norms(folded) == left and (folded is network) == (left == 1)
    pictures = np.random.default_rng(1).uniform(-1, 1, (3, 6, 6, 2)).astype(np.float32)
    expected = np.asarray(network(pictures, training=False))
    np.testing.assert_allclose(folded(pictures, training=False), expected, rtol=1e-4, atol=1e-4)
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
