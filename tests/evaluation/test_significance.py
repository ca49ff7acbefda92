import itertools

import numpy as np
import pytest

from kdsr_tf.evaluation import significance


def bootstrap_intervals(values, users, seed):
    """Per metric, the ends of its interval, from a value per test point."""
    counts = np.bincount(users)[:, None]
    sums = significance.user_sums(np.stack(list(values.values()), axis=1), users, len(counts))
    ends = significance.percentile_interval(significance.bootstrap_means(sums, counts, seed))
    return dict(zip(values, zip(*ends, strict=True), strict=True))


def test_intervals_draw_users_not_points():
    # One user owns 90 of 100 points: their fate decides, so the interval is wide.
    groups = np.array([0] * 90 + list(range(1, 11)))
    values = {"hr_1": np.array([1.0] * 90 + [0.0] * 10)}
    low, high = bootstrap_intervals(values, groups, seed=0)["hr_1"]
    assert low == 0 and high > 0.9
    alike = bootstrap_intervals({"hr_1": np.ones(100)}, groups, seed=0)["hr_1"]
    assert alike == (1, 1)


def test_intervals_have_the_width_of_the_standard_error():
    rng = np.random.default_rng(1)
    hits = (rng.random(2000) < 0.3).astype(float)
    low, high = bootstrap_intervals({"hr": hits}, np.arange(2000), seed=0)["hr"]
    error = hits.std() / np.sqrt(2000)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    again = bootstrap_intervals({"hr": hits}, np.arange(2000), seed=0)["hr"]
    assert again == (low, high)


def test_draws_do_not_depend_on_how_many_fit_in_memory(monkeypatch):
    sums, counts = np.random.default_rng(2).random((30, 2)), np.full((30, 1), 3)
    whole = significance.bootstrap_means(sums, counts, seed=1, num_samples=50)
    monkeypatch.setattr(significance, "_CELLS_AT_ONCE", 70)
    parts = significance.bootstrap_means(sums, counts, seed=1, num_samples=50)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_a_column_without_points_in_a_draw_is_left_out_of_that_draw():
    # Only user 0 has points in the second column, all of value 2.
    sums, counts = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1, 1], [1, 0]])
    means = significance.bootstrap_means(sums, counts, seed=0, num_samples=200)
    missing = np.isnan(means[:, 1])
    assert 20 < missing.sum() < 80  # a quarter of the draws never takes user 0
    assert np.all(means[missing, 0] == 0)
    low, high = significance.percentile_interval(means)
    assert (low[1], high[1]) == (2, 2)


def test_p_values_are_those_of_all_signs():
    differences = np.array(
        [[3.0, 1.0], [1.0, -1.0], [2.0, 1.0], [0.0, 0.0], [-1.0, 2.0], [4.0, 0.5]]
    )
    signs = np.array(list(itertools.product((-1, 1), repeat=6)))
    sums = np.abs(signs @ differences)
    exact = (sums >= np.abs(differences.sum(axis=0)) - 1e-9).mean(axis=0)
    found = significance.randomisation_p_values(differences, seed=0)
    assert found == pytest.approx(exact, abs=0.015)
    np.testing.assert_array_equal(found, significance.randomisation_p_values(-differences, seed=0))


def test_p_values_of_runs_that_are_alike_are_uniform():
    rng = np.random.default_rng(3)
    p_values = np.concatenate(
        [
            significance.randomisation_p_values(rng.normal(size=(50, 40)), seed, num_samples=499)
            for seed in range(10)
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        expected_error = np.sqrt(level * (1 - level) / len(p_values))
        assert abs(np.mean(p_values <= level) - level) < 3.5 * expected_error


def test_equal_runs_and_the_smallest_p_value():
    nothing, always = np.zeros((100, 1)), np.ones((100, 1))
    assert significance.randomisation_p_values(nothing, seed=0) == [1]
    assert significance.randomisation_p_values(always, seed=0, num_samples=99) == [1 / 100]
