import numpy as np
import pytest

from kdsr_tf.teacher.quality import collapse_warnings, describe_codebook, describe_scores

CODEBOOK = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0], [9.0, 9.0]])


def _describe(vectors, codes):
    pairs = np.arange(2 * len(codes)).reshape(-1, 2)
    return describe_codebook(np.array(vectors, float), np.array(codes), CODEBOOK, pairs)


def test_usage_by_hand():
    report = _describe([[0.2, 0], [0.1, 0], [1, 0], [1, 0.4]], [0, 0, 1, 1])
    assert report["used_share"] == pytest.approx(2 / 4)
    assert report["perplexity"] == pytest.approx(2)
    assert report["quantisation_error"] == pytest.approx((0.04 + 0.01 + 0 + 0.16) / 4)
    assert report["codes"][0]["pairs"] == [[2, 3], [0, 1]]
    assert report["codes"][2] == {"code": 2, "count": 0, "profile": [5, 5], "pairs": []}


def test_warnings_name_the_modality_and_what_collapsed():
    report = _describe([[0.1, 0]] * 50, [0] * 50)
    unused, collapsed = collapse_warnings("image", 4, report)
    assert "image: only 25% of the codes" in unused and "perplexity of 1.0" not in unused
    assert collapse_warnings("text", 4, _describe(CODEBOOK, [0, 1, 2, 3])) == []
    assert "4 codes instead of 9" in collapse_warnings("text", 9, report)[0]
    assert "the codes collapse" in collapsed


def test_no_pairs_are_described_without_nan():
    report = _describe(np.zeros((0, 2)), np.zeros(0, int))
    assert report["perplexity"] == 1 and report["quantisation_error"] == 0
    assert describe_scores(np.zeros(0))["std"] == 0
    (warning,) = collapse_warnings("text", 100, report)
    assert "no pair of the sample has two items" in warning
