import numpy as np
import pytest

from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.schema import pair_positions
from kdsr_tf.teacher import pair_correlations

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, 4, 3)).astype("float32")
ITEMS = np.array([[5, 2, 8, 1], [3, 4, 0, 0]])


def test_eq6_equals_the_equation_at_every_prefix():
    head = PredictionHead(3, short_term=2)
    found = np.asarray(head(STATES, ITEMS))
    w1, w2, w3 = (np.asarray(w) for w in head.get_weights())
    for row, length in ((0, 4), (1, 2)):
        for stop in range(1, length + 1):
            h = STATES[row, :stop]
            alpha = np.maximum(h @ w1, 0) @ w2
            short = (alpha * h)[-2:].sum(0)
            expected = np.concatenate([short, h.mean(0)]) @ w3
            np.testing.assert_allclose(found[row, stop - 1], expected, rtol=1e-4, atol=1e-5)
    assert not found[1, 2:].any()


@pytest.mark.parametrize("pooling", ["eq6", "last_sum", "last"])
def test_padding_states_reach_no_real_position(pooling):
    head = PredictionHead(3, pooling)
    noise = STATES.copy()
    noise[1, 2:] = 1e3
    np.testing.assert_array_equal(head(STATES, ITEMS), head(noise, ITEMS))


@pytest.mark.parametrize("pooling", ["eq6", "last_sum", "last"])
def test_some_prefixes_alone_are_those_of_the_call(pooling):
    head = PredictionHead(3, pooling, short_term=3)
    windows, ends = np.array([0, 1, 0, 0, 1]), np.array([3, 0, 1, 2, 1])
    expected = np.asarray(head(STATES, ITEMS))[windows, ends]
    np.testing.assert_allclose(head.at(STATES, windows, ends), expected, rtol=1e-5, atol=1e-6)


def test_correlation_head_equals_the_equations():
    head = CorrelationHead(3, 5, "euclidean", score_scale=2.0)
    first, second = pair_positions(4)
    scores, logits = head(STATES, first, second)
    kernel, bias, compare, classify = (np.asarray(w) for w in head.get_weights())
    projected = STATES @ kernel + bias
    expected = (
        pair_correlations.correlation(projected[:, first], projected[:, second], "euclidean") / 2
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    hidden = np.maximum(np.abs(STATES[:, first] - STATES[:, second]) @ compare, 0)
    np.testing.assert_allclose(logits, hidden @ classify, rtol=1e-4, atol=1e-5)


def test_drawn_pairs_predict_what_all_pairs_do():
    head = CorrelationHead(3, 5)
    first, second = pair_positions(4)
    index = np.array([[0, 4, 5], [3, 1, 1]])
    all_pairs = head(STATES, first, second)
    drawn = head(STATES, first[index], second[index])
    for whole, part in zip(all_pairs, drawn, strict=True):
        whole = np.asarray(whole)
        expected = np.stack([whole[b, index[b]] for b in range(2)])
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-5)
