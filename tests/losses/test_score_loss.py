import keras
import numpy as np
import pytest

from kdsr_tf.losses.score_loss import ScoreLoss
from tests.gradients import value_and_gradients
from tests.nearness import assert_near

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(-1, 1, (3, 6)).astype("float32")
PREDICTED = RNG.uniform(-1, 1, (3, 6)).astype("float32")
VALID = np.array([[1, 1, 0, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0] * 6], "float32")
FORMS = [("paper", "soft"), ("paper", "hard"), ("frobenius", "soft"), ("frobenius", "hard")]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def oracle(form, match, tau=1.5):
    """Per window in float64, pair by pair."""
    windows = []
    for r, p, valid in zip(SCORES.astype("f8"), PREDICTED.astype("f8"), VALID, strict=True):
        r, p = r[valid > 0], p[valid > 0]
        if match == "soft":
            r, p = r / tau, p / tau
        if form == "frobenius":
            matrix_squares = 2 * ((p - r) ** 2).sum()  # both orders of a pair
            windows.append(np.sqrt(matrix_squares))
            continue
        if match == "soft":
            r, p = sigmoid(r), sigmoid(p)
        windows.append(((r - p) ** 2).mean() if len(r) else 0.0)
    return np.array(windows)


def test_paper_value_by_hand():
    # σ(ln 3) = 3/4 and σ(0) = 1/2: (1/4)².
    loss = ScoreLoss(temperature=0.5)
    scores = np.array([[np.log(3.0) / 2]])
    np.testing.assert_allclose(loss((scores, np.ones((1, 1))), np.zeros((1, 1))), 1 / 16, rtol=1e-5)


def test_largest_value_for_cosine_is_small():
    value = ScoreLoss()((np.ones((1, 1)), np.ones((1, 1))), -np.ones((1, 1)))
    assert_near(value, 0.103, 1e-3)


@pytest.mark.parametrize(("form", "match"), FORMS)
def test_equals_oracle_over_windows(form, match):
    windows = ScoreLoss(form, match, reduction="none")((SCORES, VALID), PREDICTED)
    np.testing.assert_allclose(windows, oracle(form, match), rtol=1e-5, atol=1e-7)
    mean = ScoreLoss(form, match)((SCORES, VALID), PREDICTED)
    np.testing.assert_allclose(mean, oracle(form, match).mean(), rtol=1e-5)


@pytest.mark.parametrize(("form", "match"), FORMS)
def test_padding_and_order_do_not_matter(form, match):
    loss = ScoreLoss(form, match, reduction="none")
    whole = np.asarray(loss((SCORES, VALID), PREDICTED))
    keep = VALID[0] > 0
    truncated = loss((SCORES[:1, keep], VALID[:1, keep]), PREDICTED[:1, keep])
    np.testing.assert_allclose(whole[0], truncated[0], rtol=1e-5)
    order = RNG.permutation(6)
    permuted = loss((SCORES[:, order], VALID[:, order]), PREDICTED[:, order])
    np.testing.assert_allclose(whole, permuted, rtol=1e-5)


@pytest.mark.parametrize(("form", "match"), FORMS)
def test_gradient_is_finite_and_zero_where_masked(form, match):
    # The second window is matched exactly, where a norm has no slope; the third is padding.
    predicted = np.concatenate([PREDICTED[:1], SCORES[1:2], PREDICTED[2:]])
    _, [gradient] = value_and_gradients(
        lambda given: ScoreLoss(form, match)((SCORES, VALID), given), predicted
    )
    assert np.isfinite(gradient).all()
    assert (gradient[VALID == 0] == 0).all()
    assert np.abs(gradient[0][VALID[0] > 0]).min() > 0


@pytest.mark.parametrize("arguments", [{"form": "l2"}, {"match": "x"}, {"temperature": 0.0}])
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        ScoreLoss(**arguments)


def test_works_under_mixed_precision_policy():
    half = keras.ops.cast(PREDICTED, "bfloat16")
    np.testing.assert_allclose(
        ScoreLoss()((SCORES, VALID), half), oracle("paper", "soft").mean(), rtol=5e-2
    )
