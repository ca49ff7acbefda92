"""The private name of TensorFlow is there and does what the server relies on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from serving import internals


class _Public:
    """A session as it would be without the private name."""

    def __init__(self, session):
        self.make_callable = session.make_callable


@pytest.mark.parametrize("is_private", [True, False])
def test_both_callables_take_arrays_in_order(is_private):
    with tf.Graph().as_default() as graph:
        x, y = (tf.compat.v1.placeholder(tf.float32, name=name) for name in "xy")
        tf.subtract(x, y, name="z"), tf.add(x, y, name="sum")
    with tf.compat.v1.Session(graph=graph) as session:
        assert hasattr(session, "_make_callable_from_options")
        call = internals.callable_of(
            session if is_private else _Public(session), ["x:0", "y:0"], ["z:0", "sum:0"]
        )
        found = call(np.float32([5, 7]), np.float32([1, 2]))
    assert [values.tolist() for values in found] == [[4, 5], [6, 9]]
