import keras
import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.gather import gather


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [2, [1, 0, 1], [[0, 2], [2, 2]]])
def test_it_takes_what_numpy_takes(indices, axis):
    values = np.arange(36, dtype="float32").reshape(3, 3, 4)
    found = gather(values, np.array(indices, "int32"), axis=axis)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), np.take(values, indices, axis))


def test_a_variable_is_read_in_the_type_of_the_call():
    variable = keras.Variable(np.eye(3), dtype="float32")
    with keras.src.backend.AutocastScope("float16"):
        assert keras.backend.standardize_dtype(gather(variable, [1]).dtype) == "float16"


def test_symbols_have_shapes():
    values, indices = keras.KerasTensor((None, 5)), keras.KerasTensor((2, None), "int32")
    assert gather(values, indices).shape == (2, None, 5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of its graphs")
def test_it_is_one_operation_and_its_gradient_adds_up():
    import tensorflow as tf

    def taken(values, indices):
        return gather(values, indices)

    kinds = tf.TensorSpec([3, 2]), tf.TensorSpec([None], tf.int32)
    graph = tf.function(taken, autograph=False).get_concrete_function(*kinds).graph
    made = {operation.type for operation in graph.get_operations()} - {"Placeholder", "Identity"}
    assert made == {"GatherV2", "Const"}
    values = tf.constant(np.eye(3), "float32")
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(gather(values, [1, 1, 0]))
    gradient = tf.convert_to_tensor(tape.gradient(total, values))
    np.testing.assert_array_equal(gradient, [[1] * 3, [2] * 3, [0] * 3])
