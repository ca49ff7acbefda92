import numpy as np
from keras import ops

from kdsr_tf.ops.look_up import look_up
from tests.gradients import value_and_gradients


def test_rows_and_their_gradient_are_those_of_a_plain_look_up():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 3)).astype("float32")
    rows = np.array([[1, 5, 1], [0, 2, 1]], "int32")
    share = rng.normal(size=(2, 3, 3)).astype("float32")
    value, found = value_and_gradients(lambda table: ops.sum(share * look_up(table, rows)), table)
    expected, theirs = value_and_gradients(
        lambda table: ops.sum(share * ops.take(table, rows, axis=0)), table
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(found[0], theirs[0], rtol=1e-5)


def test_the_gradient_of_an_item_that_occurs_often_is_whole_in_half_precision():
    rows = np.ones((1000,), "int32")

    def summed(table):
        return ops.sum(ops.cast(look_up(ops.cast(table, "bfloat16"), rows), "float32"))

    _, (found,) = value_and_gradients(summed, np.zeros((3, 2), "float32"))
    np.testing.assert_allclose(found, [[0, 0], [1000, 1000], [0, 0]])
