"""What backbones learn beside the next item, against plain NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdsr_tf.layers.auxiliaries import AttributePredictor, ItemTower
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)
# Item 5 comes next in two windows at once; item 2 has no modality; the last window is empty.
ITEMS = np.array([[3, 5, 2, 7], [4, 5, 1, 0], [6, 8, 9, 2], [0, 0, 0, 0]], "int32")
STATES = RNG.normal(size=(4, 4, 6)).astype("float32")
EMBEDDINGS = {"items": ITEMS}
for modality in ("image", "text"):
    EMBEDDINGS[modality] = RNG.normal(size=(10, 6)).astype("float32")[ITEMS]
EMBEDDINGS["text_present"] = (ITEMS > 0) & (ITEMS != 2)
EMBEDDINGS["image_present"] = (ITEMS > 0) & (ITEMS % 2 == 1)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def dense(layer: keras.layers.Dense, inputs: np.ndarray) -> np.ndarray:
    kernel, bias = (np.asarray(weight, "float64") for weight in layer.weights)
    return inputs @ kernel + bias


def test_the_predictor_regresses_directions_of_features_that_are_there():
    predictor = AttributePredictor(6, ("image", "text"))
    found = predictor(EMBEDDINGS, STATES)
    for modality in ("image", "text"):
        layer = next(w for w in predictor._flatten_layers() if w.name == modality)
        expected = np.zeros(4)
        for window in range(4):
            errors = [
                np.mean(
                    (dense(layer, STATES[window, t]) - unit(EMBEDDINGS[modality][window, t + 1]))
                    ** 2
                )
                for t in range(3)
                if EMBEDDINGS[f"{modality}_present"][window, t + 1]
            ]
            expected[window] = np.mean(errors) if errors else 0.0
        np.testing.assert_allclose(found[f"{modality}_attribute"], expected, rtol=1e-5)


def test_the_tower_contrasts_windows_at_equal_positions():
    tower = ItemTower(6, ("image", "text"), temperature=0.5)
    found = np.asarray(tower(EMBEDDINGS, STATES)["contrast"])
    layers = {layer.name: layer for layer in tower._flatten_layers()}
    has = {m: EMBEDDINGS[f"{m}_present"] for m in ("image", "text")}

    def item(window: int, t: int) -> np.ndarray:
        encoded = [
            np.maximum(dense(layers[m], unit(EMBEDDINGS[m][window, t])), 0)
            for m in ("image", "text")
            if has[m][window, t]
        ]
        return unit(dense(layers["item"], np.mean(encoded, axis=0)))

    expected = np.zeros(4)
    for window in range(4):
        losses = []
        for t in range(3):
            if not (has["image"] | has["text"])[window, t + 1]:
                continue
            state = unit(dense(layers["state"], STATES[window, t]))
            positive = state @ item(window, t + 1) / 0.5
            negatives = [
                state @ item(other, t + 1) / 0.5
                for other in range(4)
                if (has["image"] | has["text"])[other, t + 1]
                and ITEMS[other, t + 1] != ITEMS[window, t + 1]
            ]
            losses.append(np.log(np.sum(np.exp([positive, *negatives]))) - positive)
        expected[window] = np.mean(losses) if losses else 0.0
    assert (expected[:3] > 0).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("auxiliary", [AttributePredictor, ItemTower])
def test_features_and_states_of_zero_give_finite_losses_and_gradients(auxiliary, dtype):
    layer = auxiliary(6, ("image", "text"), dtype=dtype)
    layer.build()
    features = {m: EMBEDDINGS[m] * EMBEDDINGS[f"{m}_present"][..., None] for m in ("image", "text")}

    def total(states):
        states = keras.ops.cast(states, layer.compute_dtype)
        return sum(keras.ops.sum(loss) for loss in layer(EMBEDDINGS | features, states).values())

    for states in (STATES, np.zeros_like(STATES)):
        value, (gradient,) = value_and_gradients(total, states)
        assert np.isfinite(value) and np.isfinite(gradient).all()


REPLICAS_PROGRAM = """
from kdsr_tf import light_imports; light_imports.install()
import keras, numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.models.batches import make_batch, make_student
from kdsr_tf.methods.kdsr import KDSR

def fit():
    model = KDSR(make_student(backbone="mmsrec", dropout=0.0), modalities=())
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    data = tf.data.Dataset.from_tensor_slices(make_batch(8)).batch(8).repeat(3)
    return model.fit(data, verbose=0).history, model.get_weights()

logs, weights = fit()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    their_logs, their_weights = fit()
assert logs["contrast"][0] > 0.1
for name in ("loss", "next_item", "contrast"):
    np.testing.assert_allclose(their_logs[name], logs[name], rtol=1e-4, err_msg=name)
for one, two in zip(weights, their_weights, strict=True):
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
def test_two_replicas_contrast_as_one_does():
    """A new process: logical devices exist before TensorFlow starts, or never."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", REPLICAS_PROGRAM], env=environment, check=True)
