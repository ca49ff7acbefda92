import numpy as np
import pytest

from kdsr_tf.ops.kernels import pair_codes
from kdsr_tf.ops.kernels.pair_codes import plain_summed_code_loss, summed_code_loss
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)
FIRST, SECOND = np.array([0, 0, 1, 4, 2]), np.array([1, 2, 2, 0, 3])
CODES, WEIGHTS = np.array([3, 0, 3, 1, 2]), np.array([1.0, 0.5, 2.0, 0.0, 1.0], "float32")


@pytest.mark.parametrize(("chunk_pairs", "block_chunks"), [(2, 1), (1, 2), (2, 16), (4_096, 16)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equals_the_plain_loss_and_its_gradients(chunk_pairs, block_chunks, scale, monkeypatch):
    """Chunks and blocks that do not divide the pairs, logits beyond exp's range."""
    monkeypatch.setattr(pair_codes, "BLOCK_CHUNKS", block_chunks)
    rows = (scale * RNG.normal(size=(5, 4))).astype("float32")
    kernels = [RNG.normal(size=shape).astype("float32") for shape in ((4, 4), (4, 6))]
    value, found = value_and_gradients(
        lambda *weights: (
            0.5 * summed_code_loss(*weights, FIRST, SECOND, CODES, WEIGHTS, chunk_pairs)
        ),
        rows,
        *kernels,
    )
    theirs, expected = value_and_gradients(
        lambda *weights: 0.5 * plain_summed_code_loss(*weights, FIRST, SECOND, CODES, WEIGHTS),
        rows,
        *kernels,
    )
    np.testing.assert_allclose(value, theirs, rtol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * scale)
