import numpy as np
import pytest

from kdsr_tf.backbones.catalogue import BACKBONES
from kdsr_tf.evaluation.rank_metrics import pessimistic_ranks
from kdsr_tf.evaluation.ranker import Ranker, exclude, popularity_ranks, shared_passes

NUM_ITEMS, MAX_LENGTH = 60, 6


def test_points(rng, users=6):
    """Histories as test points have them: growing up to `MAX_LENGTH`, then sliding."""
    for _ in range(users):
        items = rng.integers(1, NUM_ITEMS + 1, rng.integers(3, 11)).astype(np.int32)
        yield from (items[max(0, stop - MAX_LENGTH) : stop] for stop in range(1, len(items) + 1))


test_points.__test__ = False


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_shared_passes_rank_as_one_window_per_point(backbone):
    from kdsr_tf.methods.student import Student

    rng = np.random.default_rng(0)
    histories = [*test_points(rng), np.zeros(0, np.int32), np.array([5], np.int32)]
    student = Student(
        NUM_ITEMS, 8, MAX_LENGTH, backbone, num_layers=1, modalities=("text",), seed=1
    )
    for variable in student.trainable_variables:
        variable.assign(rng.normal(scale=0.4, size=variable.shape))
    ranker = Ranker(student, batch_size=4)
    scores = ranker.scores(ranker.vectors(histories))
    # A pass of its own for every point, alone in its batch, without padding.
    alone = [ranker.scores(ranker.vectors([history])) for history in histories]
    np.testing.assert_allclose(scores, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    targets = rng.integers(1, NUM_ITEMS + 1, len(histories))
    ranks = [pessimistic_ranks(row, targets[k : k + 1])[0] for k, row in enumerate(alone)]
    assert pessimistic_ranks(scores, targets).tolist() == ranks
    oracle = np.array(student.scores(histories[7][None]))
    np.testing.assert_allclose(scores[7, 1:], oracle[0, 1:], rtol=1e-4, atol=1e-5)


def test_a_window_serves_its_beginnings_only():
    histories = [np.array(row) for row in ([3], [3, 5], [3, 5, 8], [5, 8], [], [5], [6, 5])]
    assert shared_passes(histories).tolist() == [2, 2, 2, 3, 4, 5, 6]


def test_popularity_ranks_are_those_of_scores():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, 30)
    targets = rng.integers(1, 30, 40)
    seen = [rng.integers(1, 30, rng.integers(0, 9)) for _ in targets]
    scores = np.repeat(counts[None].astype(np.float32), 40, axis=0)
    scores[:, 0] = -np.inf
    assert np.array_equal(popularity_ranks(counts, targets), pessimistic_ranks(scores, targets))
    exclude(scores, seen)
    ranks = popularity_ranks(counts, targets, seen)
    assert np.array_equal(ranks, pessimistic_ranks(scores, targets))
