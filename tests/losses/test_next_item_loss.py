import numpy as np
import pytest

from kdsr_tf.losses.next_item_loss import NextItemLoss
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)
TARGETS = np.array([[1, 4, 0], [3, 0, 0], [0, 0, 0]], "int32")
LOGITS = RNG.normal(size=(3, 3, 4)).astype("float32")


def oracle():
    values = []
    for target, logits in zip(TARGETS.ravel(), LOGITS.reshape(-1, 4).astype("f8"), strict=True):
        if target:
            values.append(np.log(np.exp(logits).sum()) - logits[target - 1])
    return np.array(values)


def test_value_by_hand():
    # Odds 3 : 1 for item 2 of two items.
    value = NextItemLoss()(np.array([2]), np.array([[0.0, np.log(3.0)]]))
    np.testing.assert_allclose(value, np.log(4 / 3), rtol=1e-5)


def test_is_the_mean_over_positions_with_a_target():
    np.testing.assert_allclose(NextItemLoss()(TARGETS, LOGITS), oracle().mean(), rtol=1e-5)
    flat = TARGETS.ravel()
    packed = NextItemLoss()(flat[flat > 0], LOGITS.reshape(-1, 4)[flat > 0])
    np.testing.assert_allclose(packed, oracle().mean(), rtol=1e-5)


def test_label_smoothing_is_the_cross_entropy_with_a_softened_target():
    smoothing, num_items = 0.2, LOGITS.shape[-1]
    wanted = np.full((TARGETS.size, num_items), smoothing / num_items)
    wanted[np.arange(TARGETS.size), TARGETS.ravel() - 1] += 1 - smoothing
    logits = LOGITS.reshape(-1, num_items).astype("f8")
    losses = -(wanted * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1)
    value = NextItemLoss(smoothing)(TARGETS, LOGITS)
    np.testing.assert_allclose(value, losses[TARGETS.ravel() > 0].mean(), rtol=1e-5)


def test_label_smoothing_out_of_range_is_named():
    with pytest.raises(ValueError, match="`label_smoothing` must be in"):
        NextItemLoss(1.0)


def test_without_any_target_loss_and_gradient_are_zero():
    value, [gradient] = value_and_gradients(
        lambda logits: NextItemLoss()(np.zeros_like(TARGETS), logits), LOGITS
    )
    assert value == 0.0
    assert not gradient.any()
