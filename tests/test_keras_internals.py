"""The private names of Keras are there and do what this package relies on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kdsr_tf.errors import KDSRError
from kdsr_tf.keras_internals import (
    GroupOptimizerHooks,
    inputs_of,
    moments_of,
    readers_of,
    variables_of,
)
from kdsr_tf.private_interfaces import require


def test_the_graph_of_a_functional_model():
    picture = keras.Input((4,))
    first, second, both = (keras.layers.Dense(4, name=name) for name in ("a", "b", "c"))
    x = first(picture)
    keras.Model(picture, [both(second(x)), both(x)])
    assert [[layer.name for layer in call] for call in inputs_of(both)] == [["b"], ["a"]]
    assert {layer.name for layer in readers_of(first)} == {"b", "c"}
    assert readers_of(both) == []


def test_what_an_optimizer_keeps():
    adam = keras.optimizers.Adam(1.0, beta_1=0.5, beta_2=0.25)
    variable = keras.Variable(np.zeros(2, "float32"))
    adam.apply([keras.ops.convert_to_tensor([2.0, 4.0])], [variable])
    mean, square = moments_of(adam, variable)
    assert np.asarray(mean).tolist() == [1.0, 2.0] and np.asarray(square).tolist() == [3.0, 12.0]
    assert [v is variable for v in variables_of(adam)] == [True]


def test_the_hooks_are_called_by_a_step():
    class Watched(GroupOptimizerHooks, keras.optimizers.SGD):
        def rate_of_step(self, rate):
            return 10 * rate

        def clipped(self, gradients):
            return [gradient / 2 for gradient in super().clipped(gradients)]

    variable = keras.Variable(np.zeros(1, "float32"))
    Watched(0.1).apply([keras.ops.convert_to_tensor([4.0])], [variable])
    assert np.asarray(variable.value).tolist() == [-2.0]


def test_an_optimizer_without_the_steps_is_refused():
    class Renamed:
        _get_variable_index = _clip_gradients = None

    with pytest.raises(KDSRError, match=r"^Renamed has no _get_current_learning_rate\. .*Keras 3"):
        type("Adam", (GroupOptimizerHooks, Renamed), {})


def test_require_names_everything_that_is_gone():
    require(np, "ndarray", read_in="NumPy 2")
    with pytest.raises(KDSRError, match=r"^numpy has no _a, _b\. .* read in NumPy 0\. Install"):
        require(np, "_a", "ndarray", "_b", read_in="NumPy 0")
