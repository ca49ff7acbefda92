import numpy as np
from keras import ops

from kdsr_tf.layers.graph_attention import inner_products
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)


def test_equals_einsum_and_its_gradients():
    rows = [RNG.normal(size=(2, 3, 4)).astype("float32") for _ in range(5)]
    weights = RNG.normal(size=(2, 3, 2, 3)).astype("float32")

    def along(*rows):
        return ops.sum(weights * inner_products(rows[:2], rows[2:]))

    def expected(*rows):
        left, right = ops.stack(rows[:2], axis=-2), ops.stack(rows[2:], axis=-2)
        return ops.sum(weights * ops.einsum("blsd,bltd->blst", left, right))

    value, found = value_and_gradients(along, *rows)
    theirs, gradients = value_and_gradients(expected, *rows)
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
