"""What every exported layer and loss must survive."""

from __future__ import annotations

import os
import tempfile

import keras
import numpy as np
from keras import ops
from keras.src.backend import compute_output_spec


def to_numpy(values):
    return keras.tree.map_structure(lambda x: np.asarray(ops.convert_to_numpy(x)), values)


def floats(values):
    """The float leaves of a structure."""
    return [
        leaf
        for leaf in keras.tree.flatten(values)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype))
    ]


def check_layer(layer: keras.layers.Layer, *inputs, trains: bool = True) -> None:
    """Run a layer through its contract.

    Args:
        layer: A new layer; its dropout must be off outside training.
        *inputs: Call arguments, nests of NumPy arrays with a leading batch axis.
        trains: Whether it has trainable weights.
    """
    outputs = to_numpy(layer(*inputs))
    assert bool(layer.trainable_variables) == trains
    _check_serialization(layer, inputs, outputs)
    _check_symbolic_shapes(layer, inputs, outputs)
    _check_mixed_precision(layer, inputs, outputs)
    _check_fit_and_reload(layer, inputs, trains)


def check_loss(loss: keras.losses.Loss, y_true, y_pred: np.ndarray) -> None:
    """Run a loss through its contract.

    Args:
        loss: Any loss with a scalar reduction.
        y_true: Nest of NumPy arrays.
        y_pred: Floats that do not minimise it.
    """
    value = float(loss(y_true, y_pred))
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()
    assert float(copy(y_true, y_pred)) == value
    half = loss(y_true, ops.cast(y_pred, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    np.testing.assert_allclose(float(half), value, rtol=2e-2)
    spec = compute_output_spec(loss, _symbolic(y_true), _symbolic(y_pred))
    assert tuple(spec.shape) == ()
    model = Shift(loss, y_pred.shape[1:])
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    batch = {"y_true": y_true, "y_pred": y_pred}
    first = model.train_on_batch(batch)
    second = model.train_on_batch(batch)
    assert np.isfinite(first)
    assert second < first
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "loss.keras")
        model.save(path)
        reloaded = keras.saving.load_model(path)
        np.testing.assert_allclose(
            model.test_on_batch(batch), reloaded.test_on_batch(batch), rtol=1e-5
        )


@keras.saving.register_keras_serializable(package="kdsr_tf_tests")
class Shift(keras.Model):
    """Predictions plus one trainable array: the least model a loss can move."""

    def __init__(self, loss, shape, **kwargs):
        super().__init__(**kwargs)
        self.loss_function = loss
        self.shape = tuple(shape)
        self.shift = self.add_weight(shape=self.shape, initializer="zeros", name="shift")
        self.built = True

    def call(self, inputs):
        return inputs["y_pred"] + self.shift

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.loss_function(x["y_true"], y_pred)

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss_function)
        return {**super().get_config(), "loss": loss, "shape": self.shape}

    @classmethod
    def from_config(cls, config):
        config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**config)


def _check_serialization(layer, inputs, outputs) -> None:
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    copy(*inputs)
    copy.set_weights(layer.get_weights())
    keras.tree.map_structure(np.testing.assert_array_equal, outputs, to_numpy(copy(*inputs)))


def _check_symbolic_shapes(layer, inputs, outputs) -> None:
    spec = layer(*_symbolic(inputs))
    for expected, found in zip(keras.tree.flatten(outputs), keras.tree.flatten(spec), strict=True):
        assert tuple(found.shape) == (None, *expected.shape[1:])
        assert keras.backend.standardize_dtype(found.dtype) == str(expected.dtype)


def _check_mixed_precision(layer, inputs, outputs) -> None:
    config = layer.get_config() | {"dtype": "mixed_float16"}
    half = type(layer).from_config(config)
    half(*inputs)
    half.set_weights(layer.get_weights())
    assert all(v.dtype != "float16" for v in half.variables)
    for expected, found in zip(floats(outputs), floats(to_numpy(half(*inputs))), strict=True):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.astype("float32"), expected, rtol=2e-2, atol=2e-2)


def _check_fit_and_reload(layer, inputs, trains) -> None:
    symbolic = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=(None, *x.shape[1:]), dtype=str(x.dtype)), inputs
    )
    outputs = floats(layer(*symbolic))
    outputs = outputs[0] if len(outputs) == 1 else outputs
    model = keras.Model(keras.tree.flatten(symbolic), outputs)
    loss = keras.tree.map_structure(lambda _: "mse", outputs)
    # One step costs less than its compilation; JAX would compile every operation.
    eager = keras.backend.backend() == "tensorflow"
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, run_eagerly=eager)
    flat = keras.tree.flatten(inputs)
    targets = keras.tree.map_structure(lambda x: np.ones(x.shape, "float32"), model(flat))
    before = [np.array(w) for w in layer.get_weights()]
    assert np.isfinite(model.train_on_batch(flat, targets)).all()
    moved = any((b != a).any() for b, a in zip(before, layer.get_weights(), strict=True))
    assert moved == trains
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        reloaded = keras.saving.load_model(path)
    keras.tree.map_structure(
        np.testing.assert_array_equal, to_numpy(model(flat)), to_numpy(reloaded(flat))
    )


def _symbolic(values):
    return keras.tree.map_structure(
        lambda x: keras.KerasTensor((None, *x.shape[1:]), dtype=str(x.dtype)), values
    )
