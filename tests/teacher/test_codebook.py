import numpy as np
import pytest

from kdsr_tf.teacher.codebook import CODEBOOKS, learn_codebook
from kdsr_tf.teacher.pair_correlations import nearest_codes


def _error(vectors, codebook):
    return np.square(vectors - codebook[nearest_codes(vectors, codebook)]).sum(1).mean()


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 8))
    return (centres[rng.integers(0, 30, 20_000)] + 0.2 * rng.normal(size=(20_000, 8))).astype("f4")


def test_vq_uses_every_code_and_comes_near_kmeans(vectors):
    kmeans = learn_codebook(vectors, 50, "kmeans", seed=0)
    vq = learn_codebook(vectors, 50, "vq", seed=0)
    assert vq.shape == kmeans.shape == (50, 8)
    assert len(np.unique(nearest_codes(vectors, vq))) == 50
    assert _error(vectors, vq) <= 1.1 * _error(vectors, kmeans)


@pytest.mark.parametrize("kind", CODEBOOKS)
def test_equal_seeds_give_equal_codebooks(vectors, kind):
    some = vectors[:3000]
    np.testing.assert_array_equal(
        learn_codebook(some, 20, kind, seed=1), learn_codebook(some, 20, kind, seed=1)
    )
    assert not np.array_equal(
        learn_codebook(some, 20, kind, seed=1), learn_codebook(some, 20, kind, seed=2)
    )


def test_few_distinct_vectors_become_the_codebook():
    vectors = np.repeat(np.eye(3, dtype="f4"), 5, axis=0)
    codebook = learn_codebook(vectors, 10, "kmeans", seed=0)
    assert sorted(map(tuple, codebook)) == sorted(map(tuple, np.eye(3)))


def test_an_empty_sample_gives_one_code_and_an_unknown_kind_an_error():
    assert learn_codebook(np.zeros((0, 8), "f4"), 10, "vq", seed=0).tolist() == [[0] * 8]
    with pytest.raises(ValueError, match="kmeans, vq"):
        learn_codebook(np.zeros((5, 8), "f4"), 10, "lloyd", seed=0)
