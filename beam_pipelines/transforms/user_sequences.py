"""Blocks of interactions to sequences: one row per user, one file per shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.running import advance
from beam_pipelines.transforms.item_vocabulary import Vocabulary
from beam_pipelines.transforms.kept_interactions import Block, Core
from beam_pipelines.transforms.pair_sample import TrainSequences
from beam_pipelines.transforms.shards import shard_path, write_table
from kdsr_tf import schema, splits
from kdsr_tf.config import PrepareConfig

STEM = "sequences"
SEQUENCES_SCHEMA = pa.schema(
    {
        schema.USER_ID: pa.string(),
        schema.ITEMS: pa.list_(pa.int32()),
        schema.TIMESTAMPS: pa.list_(pa.int64()),
        schema.NUM_TRAIN: pa.int32(),
    }
)

STATISTICS = "statistics"
TRAIN_ITEMS = "train_items"
TRAIN_SEQUENCES = "train_sequences"

COUNTS = ("users", "interactions", "train_points", "test_points", "validation_points")


class ShardStatistics(NamedTuple):
    """What one or several shards hold."""

    counts: dict[str, int]  # Values of `COUNTS`
    lengths: dict[int, int]  # Number of users by length of the sequence
    times: tuple[int, int] | None  # First and last timestamp, or None without interactions


class WriteSequences(beam.DoFn):
    """`(shard, blocks)` to one file of sequences.

    Needs the `Core` as its side input. A user's interactions are ordered by
    time, then by their row in the file. Outputs: `statistics` of
    `ShardStatistics`, `train_items` of `(items, counts)` and `train_sequences`
    of `TrainSequences`.

    Args:
        directory: Existing local folder or URI.
        num_shards: Shards of users.
        config: Section `prepare`.
    """

    def __init__(self, directory: str, num_shards: int, config: PrepareConfig):
        self._directory = directory
        self._num_shards = num_shards
        self._config = config

    def process(self, element: tuple[int, list[Block]], core: Core) -> Iterator[Any]:
        shard, blocks = element
        user_ids, users, items, times = _in_order(blocks)
        starts = np.searchsorted(users, np.arange(len(user_ids) + 1)).astype(np.int32)
        lengths = np.diff(starts)
        spans, moment = itertools.pairwise(starts), core.first_test_time
        num_train = np.array([self._num_train(times[a:b], moment) for a, b in spans], np.int32)
        columns = [
            user_ids,
            pa.ListArray.from_arrays(starts, pa.array(items)),
            pa.ListArray.from_arrays(starts, pa.array(times)),
            pa.array(num_train),
        ]
        path = shard_path(self._directory, STEM, shard, self._num_shards, ".parquet")
        write_table(path, pa.table(columns, schema=SEQUENCES_SCHEMA))
        in_train = np.arange(len(items)) - starts[users] < num_train[users]
        counted = np.unique(items[in_train], return_counts=True)
        yield beam.pvalue.TaggedOutput(TRAIN_ITEMS, counted)
        train = TrainSequences(items[in_train], users[in_train])
        yield beam.pvalue.TaggedOutput(TRAIN_SEQUENCES, train)
        yield beam.pvalue.TaggedOutput(STATISTICS, _statistics(lengths, num_train, times))
        advance(len(items))

    def _num_train(self, times: np.ndarray, moment: int | None) -> int:
        split = self._config.split
        if split == "ratio":
            return splits.num_train_ratio(len(times), self._config.test_fraction)
        if split == "leave_last_out":
            return splits.num_train_leave_last_out(len(times))
        return splits.num_train_global_time(times, cast(int, moment))  # every user has one here


def merge_statistics(parts: Iterable[ShardStatistics]) -> ShardStatistics:
    """The statistics of several shards together."""
    counts = dict.fromkeys(COUNTS, 0)
    lengths: dict[int, int] = {}
    times: list[int] = []
    for part in parts:
        for name, value in part.counts.items():
            counts[name] += value
        for length, users in part.lengths.items():
            lengths[length] = lengths.get(length, 0) + users
        if part.times is not None:
            times += part.times
    return ShardStatistics(counts, lengths, (min(times), max(times)) if times else None)


def train_counts(
    vocabulary: Vocabulary, parts: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Occurrences of every item among train interactions, int64 `[num_items + 1]`."""
    counts = np.zeros(len(vocabulary.item_ids) + 1, np.int64)
    for items, occurrences in parts:
        counts[items] += occurrences
    return counts


def _in_order(
    blocks: list[Block],
) -> tuple[pa.StringArray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted user ids; per interaction its user's position, item and time."""
    if not blocks:
        none = np.zeros(0, np.int32)
        return pa.array([], pa.string()), none, none, np.zeros(0, np.int64)
    every = pa.concat_arrays([block.user_ids for block in blocks])
    user_ids = pc.unique(every)
    user_ids = user_ids.take(pc.sort_indices(user_ids))
    ranks = pc.index_in(every, value_set=user_ids).to_numpy()
    offsets = np.cumsum([0] + [len(block.user_ids) for block in blocks])
    users = np.concatenate(
        [ranks[offset + block.users] for offset, block in zip(offsets, blocks, strict=False)]
    )
    items, times, rows = (
        np.concatenate([getattr(block, name) for block in blocks])
        for name in ("items", "timestamps", "rows")
    )
    order = np.lexsort((rows, times, users))
    return user_ids, users[order], items[order], times[order]


def _statistics(lengths: np.ndarray, num_train: np.ndarray, times: np.ndarray) -> ShardStatistics:
    at_least_one = np.maximum(num_train, 1)
    counts = {
        "users": len(lengths),
        "interactions": int(lengths.sum()),
        "train_points": int((at_least_one - 1).sum()),
        "test_points": int((lengths - at_least_one).sum()),
        "validation_points": sum(map(splits.has_validation, num_train.tolist())),
    }
    values, users = np.unique(lengths, return_counts=True)
    histogram = dict(zip(values.tolist(), users.tolist(), strict=True))
    span = (int(times.min()), int(times.max())) if len(times) else None
    return ShardStatistics(counts, histogram, span)
