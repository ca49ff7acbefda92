"""A whole `sequences/` in memory, as flat arrays."""

from __future__ import annotations

import functools
from typing import SupportsIndex

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf import schema, sequences, splits
from kdsr_tf.console import cut

_LONGEST_TITLE = 40


class Log:
    """Interactions of a `sequences/`, one user after the other."""

    def __init__(self, directory: str) -> None:
        columns = [schema.USER_ID, schema.ITEMS, schema.TIMESTAMPS, schema.NUM_TRAIN]
        parts = []
        for path in sequences.shards(directory):
            with fsspec.open(path, "rb") as file:
                parts.append(pq.read_table(file, columns=columns))
        table = pa.concat_tables(parts).combine_chunks()
        items = table[schema.ITEMS].combine_chunks()
        self.user_ids: list[str] = table[schema.USER_ID].to_pylist()
        self.num_train = table[schema.NUM_TRAIN].to_numpy()
        self.lengths = items.value_lengths().to_numpy()
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.items = items.flatten().to_numpy()
        self.times = table[schema.TIMESTAMPS].combine_chunks().flatten().to_numpy()
        self._catalogue = sequences.read_items(directory)

    @functools.cached_property
    def users(self) -> np.ndarray:
        """Row of the user of each interaction."""
        return np.repeat(np.arange(len(self.user_ids)), self.lengths)

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """Position of each interaction in its user's sequence."""
        return np.arange(len(self.items)) - self.starts[self.users]

    @functools.cached_property
    def in_train(self) -> np.ndarray:
        """Whether each interaction is train; the others are test."""
        return self.positions < self.num_train[self.users]

    @functools.cached_property
    def is_test_point(self) -> np.ndarray:
        """Whether each interaction is a test point: test, with something before it."""
        return ~self.in_train & (self.positions > 0)

    @functools.cached_property
    def held_out_from(self) -> np.ndarray:
        """First position of each user that no train window may show."""
        return self.num_train - (self.num_train >= splits.MIN_TRAIN_FOR_VALIDATION)

    @functools.cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each user id."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    @functools.cached_property
    def item_ids(self) -> list[str]:
        """Id of each item; entry 0 is padding."""
        return ["", *self._catalogue[schema.ITEM_ID].to_pylist()]

    @functools.cached_property
    def titles(self) -> list[str]:
        """Title of each item; entry 0 is padding."""
        return ["", *(title or "" for title in self._catalogue[schema.TITLE].to_pylist())]

    @functools.cached_property
    def train_counts(self) -> np.ndarray:
        """Train interactions of each item as the vocabulary has them `(items + 1,)`."""
        return np.concatenate([[0], self._catalogue[schema.TRAIN_COUNT].to_numpy()])

    @property
    def num_items(self) -> int:
        """Items of the vocabulary."""
        return len(self._catalogue)

    def sequence(self, row: int) -> np.ndarray:
        """Items of one user."""
        return self.items[self.starts[row] : self.starts[row + 1]]

    def item(self, index: SupportsIndex) -> str:
        """An item, for people."""
        item_id, title = self.item_ids[index], self.titles[index]
        if title in ("", item_id):
            return item_id
        return f"{item_id} ({cut(title, _LONGEST_TITLE)})"

    def point(self, interaction: SupportsIndex) -> str:
        """An interaction, for people."""
        user = self.user_ids[self.users[interaction]]
        return f"{user}: {self.item(self.items[interaction])}"
