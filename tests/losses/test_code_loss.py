import numpy as np

from kdsr_tf.losses.code_loss import CodeLoss
from tests.gradients import value_and_gradients

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 4, (3, 5)).astype("int32")
LOGITS = RNG.normal(size=(3, 5, 4)).astype("float32")
VALID = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0] * 5], "float32")


def oracle():
    logits = LOGITS.astype("f8")
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    values = -np.take_along_axis(log_softmax, CODES[..., None], axis=-1)[..., 0]
    return np.array(
        [v[m > 0].mean() if m.any() else 0.0 for v, m in zip(values, VALID, strict=True)]
    )


def test_value_by_hand():
    # Odds 3 to 1 for the true of two codes: -ln(3/4).
    logits = np.array([[[np.log(3.0), 0.0]]])
    value = CodeLoss()((np.array([[0]]), np.ones((1, 1))), logits)
    np.testing.assert_allclose(value, np.log(4 / 3), rtol=1e-5)


def test_equals_oracle_over_windows():
    loss = CodeLoss(reduction="none")
    np.testing.assert_allclose(loss((CODES, VALID), LOGITS), oracle(), rtol=1e-5)
    np.testing.assert_allclose(CodeLoss()((CODES, VALID), LOGITS), oracle().mean(), rtol=1e-5)


def test_padding_and_order_do_not_matter():
    loss = CodeLoss(reduction="none")
    keep = VALID[0] > 0
    truncated = loss((CODES[:1, keep], VALID[:1, keep]), LOGITS[:1, keep])
    np.testing.assert_allclose(truncated, oracle()[:1], rtol=1e-5)
    order = RNG.permutation(5)
    permuted = loss((CODES[:, order], VALID[:, order]), LOGITS[:, order])
    np.testing.assert_allclose(permuted, oracle(), rtol=1e-5)


def test_gradient_is_finite_and_zero_where_masked():
    _, [gradient] = value_and_gradients(lambda logits: CodeLoss()((CODES, VALID), logits), LOGITS)
    assert np.isfinite(gradient).all()
    assert (gradient[VALID == 0] == 0).all()
    assert (np.abs(gradient[VALID > 0]).sum(-1) > 0).all()
