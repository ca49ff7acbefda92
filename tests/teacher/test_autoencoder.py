import numpy as np
import pytest

from kdsr_tf.teacher import autoencoder
from kdsr_tf.teacher.autoencoder import Autoencoder, fit_linear, fit_sigmoid
from tests.nearness import assert_near


def slices(features, rows=4096):
    """Consecutive parts of an array, the last one shorter."""
    for start in range(0, len(features), rows):
        yield features[start : start + rows]


@pytest.fixture(scope="module")
def features():
    """600 vectors whose variance is concentrated in a few directions, far from 0."""
    rng = np.random.default_rng(0)
    spectrum = 3.0 * 0.8 ** np.arange(24)
    mixed, _ = np.linalg.qr(rng.normal(size=(24, 24)))
    return (5 + rng.normal(size=(600, 24)) * spectrum @ mixed).astype(np.float32)


def _error(autoencoder, features):
    return float(np.square(features - autoencoder.decode(autoencoder.encode(features))).mean())


def test_linear_solution_is_the_optimum_that_descent_approaches_from_above(features):
    exact = _error(fit_linear(lambda: slices(features), 24, 8, seed=0), features)
    centred = (features - features.mean(0)).astype(np.float64)
    encoder = np.random.default_rng(1).normal(size=(24, 8))
    reached = []
    for _ in range(100):  # exact steps in the decoder and the encoder, in turn
        codes = centred @ encoder
        decoder = np.linalg.lstsq(codes, centred, rcond=None)[0]
        reached.append(float(np.square(centred - codes @ decoder).mean()))
        encoder = np.linalg.pinv(decoder)
    assert reached[0] > 1.2 * exact
    assert min(reached) >= exact - 1e-6
    assert reached[-1] == pytest.approx(exact, rel=1e-3)


def test_batches_do_not_matter(features):
    whole = fit_linear(lambda: [features], 24, 8, seed=0)
    parts = fit_linear(lambda: slices(features, 7), 24, 8, seed=0)
    assert_near(parts.encode(features), whole.encode(features), 1e-4)


def test_rotation_levels_the_sub_vectors_and_keeps_inner_products(features):
    autoencoder = fit_linear(lambda: slices(features), 24, 16, seed=0)
    codes = autoencoder.encode(features)
    variance = codes.var(0).reshape(4, 4).sum(1)
    components = np.linalg.eigvalsh(np.cov(features.T))[::-1][:16].reshape(4, 4).sum(1)
    assert variance.max() / variance.min() < 4 < 20 < components.max() / components.min()
    assert np.square(codes).sum(1).mean() == pytest.approx(1, rel=1e-4)
    kept = autoencoder.decode(codes) - autoencoder.mean
    np.testing.assert_allclose(
        codes @ codes.T / autoencoder.scale**2, kept @ kept.T, rtol=1e-3, atol=1e-2
    )


def test_features_smaller_than_the_code_are_kept_whole(features):
    autoencoder = fit_linear(lambda: slices(features), 24, 32, seed=0)
    assert _error(autoencoder, features) < 1e-6


def test_no_features_give_a_finite_autoencoder():
    autoencoder = fit_linear(lambda: [np.zeros((0, 5), np.float32)], 5, 4, seed=0)
    assert np.isfinite(autoencoder.encode(np.ones((2, 5), np.float32))).all()


def test_features_next_to_zero_give_a_finite_autoencoder(features):
    small = features * np.float32(1e-41)
    autoencoder = fit_linear(lambda: slices(small), 24, 8, seed=0)
    assert np.isfinite(autoencoder.encode(small)).all()
    assert np.isfinite(autoencoder.decode(autoencoder.encode(small))).all()


def _fit_sigmoid(features, epochs, **changes):
    settings = {"batch_size": 100, "learning_rate": 0.02, "seed": 3} | changes
    return fit_sigmoid(lambda: slices(features, 70), 600, 24, 8, epochs=epochs, **settings)


def test_sigmoid_variant_learns_repeats_itself_and_round_trips(features, tmp_path):
    fitted = _fit_sigmoid(features, 20)
    assert _error(fitted, features) < 0.4 * features.var(0).mean()
    codes = fitted.encode(features)
    assert (codes > 0).all()
    assert np.square(codes).sum(1).mean() == pytest.approx(1, rel=1e-4)
    once, again = _fit_sigmoid(features, 1), _fit_sigmoid(features, 1)
    np.testing.assert_array_equal(once.encoder_kernel, again.encoder_kernel)
    fitted.save(str(tmp_path / "autoencoder.npz"))
    loaded = Autoencoder.load(str(tmp_path / "autoencoder.npz"))
    assert loaded.activation == "sigmoid"
    np.testing.assert_array_equal(loaded.encode(features), codes)


@pytest.mark.parametrize("block_rows", [60, 150, 10_000])
def test_every_epoch_holds_every_feature_once_in_an_order_of_its_own(monkeypatch, block_rows):
    monkeypatch.setattr(autoencoder, "_BLOCK_BYTES", 4 * 2 * block_rows)
    features = np.repeat(np.arange(530, dtype=np.float32)[:, None], 2, axis=1)
    steps = list(autoencoder._shuffled_epochs(lambda: slices(features, 70), 2, 2, 100, seed=0))
    assert [len(step) for step in steps] == 2 * [100, 100, 100, 100, 100, 30]
    first, second = (np.concatenate(part)[:, 0].tolist() for part in (steps[:6], steps[6:]))
    assert sorted(first) == sorted(second) == features[:, 0].tolist()
    assert first != second
