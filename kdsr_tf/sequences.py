"""Reading a committed `sequences/`: its users, shard by shard, and its items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf import schema
from kdsr_tf.artifacts import find_files, join, read_manifest
from kdsr_tf.errors import InputError

ITEMS_FILE = "items.parquet"

NO_TEST_POINT = (
    "{} holds no test point, so no student can be evaluated on it: no user has enough interactions "
    "for the split. Raise `prepare.test_fraction`, lower `prepare.k_core`, or bring longer "
    "histories. `kdsr train` and `kdsr export` need none."
)

_USERS_PER_BATCH = 4096


class User(NamedTuple):
    """One row of `sequences/`."""

    user_id: str  # The id
    items: np.ndarray  # All items in the order of time, int32 `(interactions,)`, read-only
    num_train: int  # The first so many are train, the rest test


def check_test_points(directory: str) -> None:
    """Refuse a committed `sequences/` without a test point before a student is trained on it."""
    if not read_manifest(directory, written_by="prepare").counts.get("test_points", 1):
        raise InputError(NO_TEST_POINT.format(directory))


def read_users(directory: str) -> Iterator[User]:
    """Every user, shard by shard; shards are by hash, so the first users are any users."""
    for path in shards(directory):
        yield from read_shard(path)


def shards(directory: str) -> list[str]:
    """Paths of the files that hold the users, in order."""
    return find_files(directory, schema.SEQUENCE_FILES)


def read_shard(path: str) -> Iterator[User]:
    """The users of one file in its order; memory holds a few thousand of them."""
    columns = [schema.USER_ID, schema.ITEMS, schema.NUM_TRAIN]
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(_USERS_PER_BATCH, columns=columns):
            user_ids, items, num_train = (batch.column(name) for name in columns)
            offsets, values = items.offsets.to_numpy(), items.values.to_numpy()
            rows = zip(user_ids.to_pylist(), num_train.to_pylist(), strict=True)
            for row, (user_id, train) in enumerate(rows):
                yield User(user_id, values[offsets[row] : offsets[row + 1]], train)


def read_items(directory: str, *columns: str) -> pa.Table:
    """The vocabulary, or some of its columns; row k is item k + 1."""
    with fsspec.open(join(directory, ITEMS_FILE), "rb") as file:
        return pq.read_table(file, columns=list(columns) or None)


def count_items(directory: str) -> int:
    """Items of the vocabulary, read from the file's footer."""
    with fsspec.open(join(directory, ITEMS_FILE), "rb") as file:
        return pq.read_metadata(file).num_rows
