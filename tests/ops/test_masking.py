import numpy as np

from kdsr_tf.ops.masking import at_last_real, real_positions, zero_padding

ITEMS = np.array([[4, 2, 0], [7, 0, 0], [0, 0, 0]], "int32")
STATES = np.arange(1, 19, dtype="float32").reshape(3, 3, 2)


def test_real_positions_are_those_with_an_item():
    np.testing.assert_array_equal(real_positions(ITEMS), ITEMS > 0)


def test_zero_padding_keeps_real_states():
    np.testing.assert_array_equal(zero_padding(STATES, ITEMS), STATES * (ITEMS > 0)[:, :, None])


def test_at_last_real_of_an_empty_sequence_is_zero():
    expected = [STATES[0, 1], STATES[1, 0], [0, 0]]
    np.testing.assert_array_equal(at_last_real(STATES, ITEMS), expected)
