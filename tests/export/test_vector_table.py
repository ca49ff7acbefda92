"""Tables of vectors in every precision against NumPy."""

import numpy as np
import pytest

from kdsr_tf.export import vector_table
from tests.nearness import assert_near

VECTORS = np.random.default_rng(0).normal(size=(23, 16)).astype(np.float32)
VECTORS[5] = 0
QUERIES = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "most", "bytes_per_row"),
    [("float32", 0, 64), ("float16", 5e-4, 32), ("int8", 4e-3, 20)],
)
def test_rounded_vectors_and_their_exact_products(monkeypatch, dtype, most, bytes_per_row):
    monkeypatch.setattr(vector_table, "_ROWS_PER_CHUNK", 7)
    table = vector_table.VectorTable(VECTORS, dtype)
    rows = table.rows(np.arange(23)).numpy()
    # Half a step of a row: its largest value over 254, or 11 bits.
    assert (np.abs(rows - VECTORS) <= most * np.abs(VECTORS).max(axis=1, keepdims=True)).all()
    assert_near(table.scores(QUERIES), QUERIES @ rows.T)
    stored = sum(v.dtype.size * v.shape.num_elements() for v in table.variables)
    assert stored == 23 * bytes_per_row
    assert table.rows([[5, 22]]).shape == (1, 2, 16)
