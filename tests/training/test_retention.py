import numpy as np
import pytest

from kdsr_tf.metrics.modality_retention import modality_retention, sample_pairs


def test_by_hand():
    # Cosines of pairs (1,2), (1,3), (2,3): 0, 1, 0 in ours; 1, 0, 0 in theirs.
    ours = np.array([[0, 0], [1, 0], [0, 2], [3, 0]], float)
    theirs = np.array([[0, 0], [1, 0], [5, 0], [0, 1]], float)
    first, second = np.array([1, 1, 2]), np.array([2, 3, 3])
    assert modality_retention(ours, theirs, first, second) == pytest.approx(-0.5)
    assert modality_retention(ours, ours * 7, first, second) == pytest.approx(1.0)


def test_random_tables_share_nothing_and_constant_ones_are_undefined():
    rng = np.random.default_rng(0)
    first, second = sample_pairs(np.arange(201) > 0, 20_000, seed=0)
    ours, theirs = rng.normal(size=(201, 16)), rng.normal(size=(201, 16))
    assert abs(modality_retention(ours, theirs, first, second)) < 0.05
    assert np.isnan(modality_retention(np.ones((201, 4)), theirs, first, second))
    assert np.isnan(modality_retention(ours, theirs, first[:0], second[:0]))


def test_pairs_are_seeded_present_and_distinct():
    present = np.arange(50) % 3 == 1
    first, second = sample_pairs(present, 1000, seed=4)
    assert present[first].all() and present[second].all() and (first != second).all()
    again = sample_pairs(present, 1000, seed=4)
    np.testing.assert_array_equal(np.stack([first, second]), np.stack(again))
    assert not np.array_equal(first, sample_pairs(present, 1000, seed=5)[0])
    assert set(first) == set(np.flatnonzero(present))
    assert len(sample_pairs(np.array([True, True]), 9, seed=0)[0]) == 0
