import numpy as np

from kdsr_tf.teacher.pair_correlations import nearest_codes


def test_codes_match_brute_force():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 11, 8)).astype("float32")
    codebook = rng.normal(size=(100, 8)).astype("float32")
    brute = np.linalg.norm(vectors[:, :, None] - codebook, axis=-1).argmin(-1)
    codes = nearest_codes(vectors, codebook)
    assert codes.dtype == "int32"
    np.testing.assert_array_equal(codes, brute)


def test_a_codeword_is_its_own_code_and_ties_go_to_the_lower_index():
    codebook = np.array([[0.0, 0], [2, 0], [2, 0]], "float32")
    assert nearest_codes(codebook, codebook).tolist() == [0, 1, 1]
    assert nearest_codes(np.array([[1.0, 0]], "float32"), codebook).tolist() == [0]
