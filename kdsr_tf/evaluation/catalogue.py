"""What evaluation and the report need to know about items and users."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import schema, stages
from kdsr_tf.artifacts import find_files, join
from kdsr_tf.config import Config
from kdsr_tf.teacher.features import Features


@dataclasses.dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The vocabulary, addressed by item index; entry 0 is padding.

    Args:
        item_ids: String ids, `""` for padding, `(items + 1,)`.
        titles: Titles, `""` for padding.
        images: Resolved picture paths, None where there is none.
        train_counts: Occurrences among train interactions, int64 `(items + 1,)`.
    """

    item_ids: list[str]
    titles: list[str]
    images: list[str | None]
    train_counts: np.ndarray

    def __len__(self) -> int:
        """Number of items without padding."""
        return len(self.item_ids) - 1


def read_catalogue(config: Config) -> Catalogue:
    """The vocabulary of a committed `sequences/`."""
    path = join(stages.location(config, "sequences"), "items.parquet")
    columns = [schema.ITEM_ID, schema.TITLE, "image", schema.TRAIN_COUNT]
    with fsspec.open(path, "rb") as file:
        table = pq.read_table(file, columns=columns)
    return Catalogue(
        item_ids=["", *table[schema.ITEM_ID].to_pylist()],
        titles=["", *table[schema.TITLE].to_pylist()],
        images=[None, *table["image"].to_pylist()],
        train_counts=np.concatenate([[0], table[schema.TRAIN_COUNT].to_numpy()]),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """One row of `sequences/`.

    Args:
        user_id: The id.
        items: All items in the order of time, int32 `(interactions,)`.
        num_train: The first so many are train, the rest test.
    """

    user_id: str
    items: np.ndarray
    num_train: int


def read_users(config: Config) -> Iterator[User]:
    """Every user of a committed `sequences/`, shard by shard."""
    columns = [schema.USER_ID, schema.ITEMS, schema.NUM_TRAIN]
    for path in find_files(stages.location(config, "sequences"), schema.SEQUENCE_FILES):
        with fsspec.open(path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(4096, columns=columns):
                user_ids, items, num_train = batch.columns
                for row, user_id in enumerate(user_ids.to_pylist()):
                    yield User(
                        user_id=user_id,
                        items=items[row].values.to_numpy(),
                        num_train=num_train[row].as_py(),
                    )


def read_features(config: Config, modality: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An encoder's vectors as one table.

    Args:
        config: The configuration.
        modality: `image` or `text`.
        size: Dimension of a vector, from the manifest of `features/<modality>`.

    Returns:
        float32 vectors `(items + 1, size)`, 0 for absent items, and a bool
        `(items + 1,)` that says which are present.
    """
    path = join(stages.location(config, "sequences"), "items.parquet")
    with fsspec.open(path, "rb") as file:
        num_rows = pq.read_metadata(file).num_rows + 1
    vectors, present = np.zeros((num_rows, size), np.float32), np.zeros(num_rows, bool)
    for items, batch in Features(stages.location(config, f"features/{modality}"), size).batches():
        vectors[items] = batch
        present[items] = True
    return vectors, present
