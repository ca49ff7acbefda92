import keras
import numpy as np
import pytest
from keras import ops

from kdsr_tf.layers.seeded_dense import Dense


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 0, 4), (2, 1, 3, 4)])
def test_rows_are_multiplied_as_by_keras(shape):
    layer, plain = Dense(6, activation="softmax"), keras.layers.Dense(6, activation="softmax")
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = plain(inputs)
    layer.build(shape)
    layer.set_weights(plain.get_weights())
    found = ops.convert_to_numpy(layer(inputs))
    assert found.shape == (*shape[:-1], 6)
    np.testing.assert_allclose(found, ops.convert_to_numpy(expected), rtol=1e-6)
    assert layer(keras.KerasTensor((None, None, 4))).shape == (None, None, 6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of its graphs")
def test_shapes_cost_few_operations():
    import tensorflow as tf

    layer = Dense(6)
    layer.build((None, None, 4))
    kind = tf.TensorSpec([None, None, 4])
    graph = tf.function(layer, autograph=False).get_concrete_function(kind).graph
    made = [operation.type for operation in graph.get_operations()]
    assert made.count("MatMul") == 1 and made.count("Reshape") == 2
    assert not {"Prod", "GatherV2", "ConcatV2", "Transpose"} & set(made)
