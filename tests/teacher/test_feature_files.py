import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.teacher.feature_files import Features, States


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_states_come_in_the_order_of_the_vectors_and_bit_for_bit(tmp_path, dtype):
    draws = np.random.default_rng(0)
    items = np.array([3, 1, 7, 2, 9], np.int32)
    vectors = draws.normal(size=(5, 4)).astype(np.float32)
    states = draws.normal(size=(5, 6)).astype(dtype)
    states[0, 0] = np.finfo(dtype).smallest_subnormal
    for shard, rows in enumerate([slice(0, 3), slice(3, 5)]):
        for stem, column, values in (
            ("vectors", "vector", vectors),
            ("states", "states", states),
        ):
            array = pa.FixedSizeListArray.from_arrays(values[rows].ravel(), values.shape[1])
            table = pa.table(
                {"item": items[rows], column: array, "content": [b"digest"] * len(items[rows])}
            )
            path = os.path.join(tmp_path, f"{stem}-{shard:05d}-of-00002.parquet")
            pq.write_table(table, path)
    found = list(States(str(tmp_path), [2, 4]).batches())
    assert [len(part) for part, _ in found] == [3, 2]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in found]), items)
    rows = np.concatenate([part for _, part in found])
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows, states)
    beside = np.concatenate(list(Features(str(tmp_path), 4).vectors()))
    np.testing.assert_array_equal(beside, vectors)
    assert len(States(str(tmp_path), [2, 4])) == 5 and States("/no", [2, 4]).sizes == (2, 4)
