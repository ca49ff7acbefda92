"""Equality of floats that were summed in another order."""

from __future__ import annotations

import numpy as np


def assert_near(found, expected, share: float = 1e-5, err_msg: str = "") -> None:
    """Every difference is at most this share of the largest value expected, or of 1.

    float32 rounds by a share of what is added up, 6e-8 per sum. A fixed tolerance fails for
    large values on a processor that adds in another order, and one relative to each value
    fails for those that are small only because their terms cancel.
    """
    expected = np.asarray(expected)
    sizes = np.abs(expected.astype(np.float64))
    largest = np.max(sizes, initial=1.0, where=np.isfinite(sizes))
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * largest, err_msg=err_msg)
