import keras
import numpy as np

from kdsr_tf.ops.quantization import nearest_codes
from kdsr_tf.teacher import pair_correlations


def test_numpy_twin_agrees_and_matches_brute_force():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 11, 8)).astype("float32")
    codebook = rng.normal(size=(100, 8)).astype("float32")
    brute = np.linalg.norm(vectors[:, :, None] - codebook, axis=-1).argmin(-1)
    codes = keras.ops.convert_to_numpy(nearest_codes(vectors, codebook))
    assert codes.dtype == "int32"
    np.testing.assert_array_equal(codes, brute)
    np.testing.assert_array_equal(pair_correlations.nearest_codes(vectors, codebook), brute)


def test_a_codeword_is_its_own_code_and_ties_go_to_the_lower_index():
    codebook = np.array([[0.0, 0], [2, 0], [2, 0]], "float32")
    for function in (nearest_codes, pair_correlations.nearest_codes):
        assert np.asarray(function(codebook, codebook)).tolist() == [0, 1, 1]
        assert np.asarray(function(np.array([[1.0, 0]], "float32"), codebook)).tolist() == [0]
