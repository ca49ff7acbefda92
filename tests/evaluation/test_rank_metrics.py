from fractions import Fraction

import numpy as np
import pytest

from kdsr_tf.evaluation import rank_metrics

RANKS = np.array([1, 2, 3, 5, 6, 20, 21])


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        ("hr", 5, Fraction(4, 7)),
        ("hr", 20, Fraction(6, 7)),
        ("mrr", 5, (1 + Fraction(1, 2) + Fraction(1, 3) + Fraction(1, 5)) / 7),
        (
            "mrr",
            20,
            (
                1
                + Fraction(1, 2)
                + Fraction(1, 3)
                + Fraction(1, 5)
                + Fraction(1, 6)
                + Fraction(1, 20)
            )
            / 7,
        ),
    ],
)
def test_accuracy_of_seven_ranks(name, k, expected):
    assert rank_metrics.ACCURACY[name](RANKS, k).mean() == pytest.approx(float(expected))


def test_discounted_gain_halves_at_the_third_place():
    gains = rank_metrics.ACCURACY["ndcg"](np.array([1, 3, 7, 8]), 7)
    assert gains == pytest.approx([1, 1 / 2, 1 / 3, 0])


def test_ties_and_nan_rank_against_the_model():
    inf, nan = np.inf, np.nan
    scores = np.array(
        [
            [-inf, 3, 2, 1],  # target 2 is second
            [-inf, 2, 2, 2],  # all alike: last
            [-inf, nan, 2, 1],  # an unknown score may be better
            [-inf, 1, nan, 1],  # the target's own score is unknown: in no list
            [-inf, 1, -inf, 1],  # the target was filtered: in no list
        ]
    )
    ranks = rank_metrics.pessimistic_ranks(scores, np.full(5, 2))
    assert ranks.tolist() == [2, 3, 2, rank_metrics.NOT_RANKED, rank_metrics.NOT_RANKED]
    # A cutoff above the size of the catalogue counts only what a list can hold.
    assert rank_metrics.hit_rate(ranks, 20).tolist() == [1, 1, 1, 0, 0]


def test_ranks_equal_a_plain_sort():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (50, 12)).astype(float)
    targets = rng.integers(0, 12, 50)
    ranks = rank_metrics.pessimistic_ranks(scores, targets)
    for row, target, rank in zip(scores, targets, ranks, strict=True):
        others = np.delete(row, target)
        assert rank == 1 + sum(other >= row[target] for other in others)


def test_top_k_is_ordered_best_first():
    scores = np.array([[-np.inf, 1.0, 5.0, 0.5, 3.0], [-np.inf, 2.0, 2.0, 9.0, 0.0]])
    assert rank_metrics.top_k(scores, 3).tolist() == [[2, 4, 1], [3, 1, 2]]


def test_top_k_lists_only_what_can_be_recommended():
    inf, nan = np.inf, np.nan
    scores = np.array([[-inf, 1, 5, 0.5], [-inf, -inf, 2, nan], [-inf, -inf, -inf, -inf]])
    assert rank_metrics.top_k(scores, 5).tolist() == [[2, 1, 3, 0, 0], [2, 0, 0, 0, 0], [0] * 5]
    assert rank_metrics.top_k(scores, 1).tolist() == [[2], [2], [0]]


def test_diversity_of_lists_worked_by_hand():
    vectors = np.array([[0, 0], [1, 0], [2, 0], [0, 3], [-1, 0], [7, 7]], np.float32)
    present = np.array([False, True, True, True, True, False])

    def diversity(*items):
        return rank_metrics.mean_diversity(np.array([items]), vectors, present)

    assert diversity(1, 2) == pytest.approx(0)
    assert diversity(1, 3) == pytest.approx(1)
    assert diversity(1, 4) == pytest.approx(2)
    # Cosines 1, 0, 0 over three pairs.
    assert diversity(1, 2, 3) == pytest.approx(1 - 1 / 3)
    # Item 5 lacks the modality: only the pair (1, 2) counts.
    assert diversity(1, 2, 5) == pytest.approx(0)
    assert diversity(1, 5) is None
