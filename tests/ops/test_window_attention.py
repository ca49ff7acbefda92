import keras
import numpy as np
import pytest
from keras import ops

from kdsr_tf.ops.window_attention import num_weights, window_attention
from kdsr_tf.ops.window_groups import WindowGroups
from tests.gradients import value_and_gradients

ITEMS = np.array([[4, 2, 0, 0, 0], [7, 0, 0, 0, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]], "int32")
HEADS, SIZE = 2, 3
PARTS = {"states": [3], "sources": [3, 2], "values alone": [1, 2]}


def plain(given, parts, lengths, starts, factors):
    """One window and one head after the other; padding is left out."""
    found = []
    for window, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        held = [
            ops.reshape(value[start : start + length], (length, n, HEADS, SIZE))
            for n, value in zip(parts, given, strict=True)
        ]
        future = np.triu(np.full((length, length), -np.inf, "float32"), 1)
        for head in range(HEADS):
            compared = [part[:, :2, head] for part in held if part.shape[1] > 1]
            scores = sum(ops.matmul(part[:, 0], ops.transpose(part[:, 1])) for part in compared)
            weights = ops.exp(scores / SIZE**0.5 + future)
            weights = weights / ops.sum(weights, axis=-1, keepdims=True)
            kept = factors[window, head, :length, :length]
            found.append(ops.matmul(weights * kept, held[0][:, -1, head]))
    return ops.concatenate([ops.reshape(part, (-1,)) for part in found])


def in_order(rows, lengths, starts):
    """Rows as `plain` gives them."""
    found = []
    for start, length in zip(starts, lengths, strict=True):
        heads = ops.reshape(rows[start : start + length], (length, HEADS, SIZE))
        found += [heads[:, head] for head in range(HEADS)]
    return ops.concatenate([ops.reshape(part, (-1,)) for part in found])


def end_to_end(factors, windows):
    """Factors `(batch, heads, length, length)` as `window_attention` takes them."""
    lengths, found = np.asarray(windows.lengths), []
    for batch, length in [tuple(int(size) for size in shape) for shape in windows.shapes]:
        group = np.zeros((HEADS, batch, length, length), "float32")
        for place, window in enumerate(np.flatnonzero(lengths == length)):
            group[:, place] = factors[window, :, :length, :length]
        found.append(group.ravel())
    return np.concatenate(found)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("drops", [True, False])
def test_attention_and_its_gradient_are_those_of_one_window_after_the_other(split, parts, drops):
    rng = np.random.default_rng(0)
    windows = WindowGroups(ITEMS, ITEMS.shape[1], split)
    starts, lengths = np.asarray(windows.starts), (ITEMS > 0).sum(axis=1)
    count = len(np.asarray(windows.rows(ITEMS)))
    given = [rng.normal(size=(count, n * HEADS * SIZE)).astype("float32") for n in parts]
    factors = np.ones((len(ITEMS), HEADS, *ITEMS.shape[1:] * 2), "float32")
    if drops:
        factors = rng.integers(0, 2, factors.shape).astype("float32") * 2
    share = rng.normal(size=lengths.sum() * HEADS * SIZE).astype("float32")
    used = ops.convert_to_tensor(end_to_end(factors, windows)) if drops else None
    if drops:
        assert len(used) == int(num_weights(windows, HEADS))

    def grouped(*values):
        rows = window_attention(values, windows, HEADS, used)
        return ops.sum(share * in_order(rows, lengths, starts))

    value, found = value_and_gradients(grouped, *given)
    expected, theirs = value_and_gradients(
        lambda *values: ops.sum(share * plain(values, parts, lengths, starts, factors)), *given
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    real = np.concatenate([start + np.arange(n) for start, n in zip(starts, lengths, strict=True)])
    for ours, other in zip(found, theirs, strict=True):
        np.testing.assert_allclose(ours[real], other[real], rtol=1e-4, atol=1e-6)


def test_half_precision_stays():
    windows = WindowGroups(ITEMS, ITEMS.shape[1], split=True)
    # The product of these queries and keys is beyond float16, and within it when scaled.
    rows = np.full((9, 3 * HEADS * SIZE), 170, "float16")
    found = window_attention([ops.convert_to_tensor(rows)], windows, HEADS)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_array_equal(found, np.full((9, HEADS * SIZE), 170, "float16"))


def test_a_batch_without_windows_has_no_rows_but_that_of_padding():
    windows = WindowGroups(np.zeros((0, 5), "int32"), 5, split=True)
    given = np.ones((1, 3 * HEADS * SIZE), "float32")
    factors = np.ones(int(num_weights(windows, HEADS)), "float32")

    def summed(rows):
        return ops.sum(window_attention([rows], windows, HEADS, factors))

    _, (found,) = value_and_gradients(summed, given)
    assert found.shape == given.shape
