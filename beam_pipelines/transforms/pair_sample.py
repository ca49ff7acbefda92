"""The pair sample of the teacher: a bottom-k sketch of the pairs that occur.

Of all distinct item pairs that lie within `max_length` of each other in a train
sequence, those with the smallest hashes are kept. Each distinct pair has the
same chance, and the sample is the same whatever the order of the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_pipelines.transforms.shards import write_table
from kdsr_tf.artifacts import join
from kdsr_tf.hashing import hash_pairs

PAIRS_FILE = "pairs.parquet"
PAIRS_SCHEMA = pa.schema([("first", pa.int32()), ("second", pa.int32())])

Sketch = tuple[np.ndarray, np.ndarray]
"""Ascending hashes and the pairs `first << 32 | second` behind them, uint64 `[k]`."""


class TrainSequences(NamedTuple):
    """Train sequences of some users, one after the other."""

    items: np.ndarray  # int32 `[n]`
    users: np.ndarray  # Equal for the items of one user, int32 `[n]`


class SmallestPairs(beam.CombineFn):
    """`TrainSequences` to the pairs with the smallest hashes.

    Args:
        size: Pairs to keep, > 0.
        max_length: Two positions of a sequence are a pair if less than this apart.
        seed: Another seed keeps another sample.

    Returns:
        int32 `[k, 2]`, `k <= size`, each row ascending, in hash order (so that a
        prefix is a smaller sample).
    """

    def __init__(self, size: int, max_length: int, seed: int):
        self._size = size
        self._max_length = max_length
        self._seed = seed

    def create_accumulator(self) -> Sketch:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)

    def add_input(self, sketch: Sketch, sequences: TrainSequences) -> Sketch:
        pending, waiting = [sketch], 0
        for first, second in _neighbours(sequences, self._max_length):
            hashes = hash_pairs(first, second, self._seed)
            if len(sketch[0]) == self._size:
                chosen = hashes <= sketch[0][-1]
                first, second, hashes = first[chosen], second[chosen], hashes[chosen]
            pending.append((hashes, first.astype(np.uint64) << np.uint64(32) | second))
            waiting += len(hashes)
            if waiting > self._size:
                sketch = self._smallest(pending)
                pending, waiting = [sketch], 0
        return self._smallest(pending)

    def merge_accumulators(self, sketches: Iterable[Sketch]) -> Sketch:
        return self._smallest(list(sketches))

    def extract_output(self, sketch: Sketch) -> np.ndarray:
        pairs = sketch[1]
        return np.stack([pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1)], 1).astype(np.int32)

    def _smallest(self, sketches: list[Sketch]) -> Sketch:
        hashes, pairs = (np.concatenate(arrays) for arrays in zip(*sketches, strict=True))
        order = np.lexsort((pairs, hashes))
        hashes, pairs = hashes[order], pairs[order]
        new = np.r_[True, pairs[1:] != pairs[:-1]] if len(pairs) else np.zeros(0, bool)
        return hashes[new][: self._size], pairs[new][: self._size]


def write_pairs(pairs: np.ndarray, directory: str) -> int:
    """Write `pairs.parquet` and return the number of pairs."""
    columns = [pa.array(column) for column in (pairs[:, 0], pairs[:, 1])]
    write_table(join(directory, PAIRS_FILE), pa.table(columns, schema=PAIRS_SCHEMA))
    return len(pairs)


def _neighbours(
    sequences: TrainSequences, max_length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs at distance 1, 2, … `max_length - 1`, smaller item first, uint64."""
    items, users = sequences.items.astype(np.uint64), sequences.users
    for distance in range(1, min(max_length, len(items))):
        same_user = users[distance:] == users[:-distance]
        if not same_user.any():
            return
        earlier, later = items[:-distance], items[distance:]
        chosen = same_user & (earlier != later)
        earlier, later = earlier[chosen], later[chosen]
        yield np.minimum(earlier, later), np.maximum(earlier, later)
