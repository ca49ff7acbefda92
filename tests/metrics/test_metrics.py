import keras
import numpy as np
import pytest

from kdsr_tf.metrics.pearson import Pearson
from kdsr_tf.metrics.ranking_metric import HitRate, MeanReciprocalRank, pessimistic_ranks

# Ranks of the targets: 1, 3 (tied with item 1), 4 (all tied), not counted.
TARGETS = np.array([2, 3, 1, 0])
LOGITS = np.array(
    [[0.1, 0.9, 0.3, 0.2], [0.4, 0.8, 0.4, 0.1], [0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]]
)


def test_ties_and_nan_rank_last():
    np.testing.assert_array_equal(pessimistic_ranks(TARGETS, LOGITS)[:3], [1, 3, 4])
    assert int(pessimistic_ranks(np.array([1]), np.full((1, 4), np.nan))[0]) == 2**31 - 1


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (HitRate(1), 1 / 3),
        (HitRate(3), 2 / 3),
        (MeanReciprocalRank(1), 1 / 3),
        (MeanReciprocalRank(3), (1 + 1 / 3) / 3),
    ],
)
def test_ranking_metrics_over_batches(metric, expected):
    for row in range(4):
        metric.update_state(TARGETS[row : row + 1], LOGITS[row : row + 1])
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (copy.name, copy.k) == (metric.name, metric.k)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_pearson_pools_batches_and_ignores_masked_values():
    rng = np.random.default_rng(0)
    x = rng.normal(0.3, 0.2, (4, 50)).astype("float32")
    y = (0.5 * x + rng.normal(0, 0.1, x.shape)).astype("float32")
    mask = rng.random(x.shape) < 0.7
    metric = Pearson()
    for row in range(4):
        metric.update_state(x[row : row + 1], y[row : row + 1], mask[row : row + 1])
    np.testing.assert_allclose(metric.result(), np.corrcoef(x[mask], y[mask])[0, 1], rtol=1e-4)


def test_pearson_of_a_constant_is_zero():
    metric = Pearson()
    metric.update_state(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]]))
    assert float(metric.result()) == 0.0


def test_pearson_keeps_its_digits_where_scores_lie_close_together():
    rng = np.random.default_rng(0)
    x = (0.9 + 1e-3 * rng.normal(size=(20, 500))).astype("float32")
    y = (0.9 + 0.5 * (x - 0.9) + 1e-3 * rng.normal(size=x.shape)).astype("float32")
    expected = np.corrcoef(x.astype("f8").ravel(), y.astype("f8").ravel())[0, 1]
    metric = Pearson()
    for _ in range(2):
        for row in range(20):
            metric.update_state(x[row], y[row], np.ones(500) * (row > 0))
        masked = np.corrcoef(x[1:].astype("f8").ravel(), y[1:].astype("f8").ravel())[0, 1]
        np.testing.assert_allclose(metric.result(), masked, rtol=1e-4)
        metric.reset_state()
    metric.update_state(x, y)
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-4)
