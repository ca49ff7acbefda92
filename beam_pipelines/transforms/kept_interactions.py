"""From rows of interactions to blocks of kept interactions, grouped by user shard.

Everything moves in batches of columns, never one interaction at a time.

Memory: the k-core is found on one worker, not on the launching machine, from two
64-bit hashes per interaction (16 bytes, and 8 more for `global_time`). Gathering copies
them and sorting takes 48 bytes more: count on 100 bytes per interaction. Every worker
holds 12 bytes per kept item and 8 per kept user and catalogue item; the rest is
bounded by the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.running import advance
from beam_pipelines.transforms.rejected import REJECTED, ROWS
from kdsr_tf import splits
from kdsr_tf.cores import core_sizes
from kdsr_tf.errors import InputError
from kdsr_tf.hashing import stable_hash
from kdsr_tf.sources.batches import Piece
from kdsr_tf.sources.interaction_rows import read_interactions


class Rows(NamedTuple):
    """Valid interactions of a batch."""

    user_ids: pa.StringArray  # Distinct user ids, string array `[u]`
    user_hashes: np.ndarray  # Their hashes, uint64 `[u]`
    users: np.ndarray  # Position in `user_ids` of each row, int32 `[n]`
    item_hashes: np.ndarray  # uint64 `[n]`
    timestamps: np.ndarray  # int64 `[n]`
    rows: np.ndarray  # Number in the file, int64 `[n]`


class Core(NamedTuple):
    """What the k-core keeps."""

    users: np.ndarray  # Sorted hashes of kept users, uint64
    items: np.ndarray  # Sorted hashes of kept items, uint64
    first_test_time: int | None  # Moment at which `global_time` divides, or None
    sizes: Sequence[dict[str, int]] = ()  # What this and other cores keep; see `core_sizes`


class Block(NamedTuple):
    """Kept interactions of some users of one shard."""

    user_ids: pa.StringArray  # Distinct user ids, string array `[u]`
    users: np.ndarray  # Position in `user_ids` of each row, int32 `[n]`
    items: np.ndarray  # Item indices, int32 `[n]`
    timestamps: np.ndarray  # int64 `[n]`
    rows: np.ndarray  # Number in the file, int64 `[n]`


def hashes_of(ids: pa.StringArray) -> np.ndarray:
    """`stable_hash` of every id, uint64 `[n]`."""
    return np.fromiter(map(stable_hash, ids.to_pylist()), np.uint64, len(ids))


def find_positions(rows: beam.PCollection) -> beam.PCollection:
    """`Rows` to one bool: whether timestamps are positions, before the k-core makes gaps."""
    return (
        rows
        | "Last times" >> beam.Map(_last_times)
        | "Gather times" >> beam.CombineGlobally(_Concatenate())
        | "Are positions" >> beam.Map(_are_positions)
    )


def find_core(
    rows: beam.PCollection, k: int, positions: Any, global_test_fraction: float | None = None
) -> beam.PCollection:
    """`Rows` to one `Core`.

    Args:
        rows: The rows.
        k: Fewest interactions of a kept user and item.
        positions: Result of `find_positions`, as a side input.
        global_test_fraction: Share of interactions after the dividing moment of
            `global_time`; None for other splits.
    """
    return (
        rows
        | "Edges" >> beam.Map(_edges, global_test_fraction is not None)
        | "Gather" >> beam.CombineGlobally(_Concatenate())
        | "Core" >> beam.Map(_core, k, global_test_fraction, positions)
    )


class ToBlocks(beam.DoFn):
    """`Rows` to `(shard, Block)` by user; interactions outside the core are dropped.

    Needs the `Core` and the `ItemIndex` as side inputs.
    """

    def __init__(self, num_shards: int):
        self._num_shards = num_shards

    def process(self, rows: Rows, core: Core, index: Any) -> Iterator[tuple[int, Block]]:
        kept = np.isin(rows.user_hashes, core.users)[rows.users]
        kept &= np.isin(rows.item_hashes, core.items)
        advance(int((~kept).sum()))
        positions = np.flatnonzero(kept)
        shards = (rows.user_hashes % np.uint64(self._num_shards))[rows.users[positions]]
        items = index.indices_of(rows.item_hashes[positions])
        for shard in np.unique(shards).tolist():
            chosen = shards == shard
            at = positions[chosen]
            users, codes = np.unique(rows.users[at], return_inverse=True)
            user_ids, codes = rows.user_ids.take(pa.array(users)), codes.astype(np.int32)
            block = Block(user_ids, codes, items[chosen], rows.timestamps[at], rows.rows[at])
            yield shard, block


def read_rows(pipeline: beam.Pipeline, pieces: list[Piece], catalogue: Any) -> Any:
    """Two collections: `rows` of `Rows` and `rejected` of `Rejected`.

    `catalogue`: sorted hashes of the catalogue's items, as a side input.
    """
    return (
        pipeline
        | "Pieces" >> beam.Create(pieces, reshuffle=True)
        | "Read" >> beam.FlatMap(_read, catalogue).with_outputs(REJECTED, main=ROWS)
    )


def _read(piece: Piece, catalogue: np.ndarray) -> Iterator[Any]:
    for batch in read_interactions(piece):
        user_ids, users = _distinct(batch.user_ids)
        item_ids, items = _distinct(batch.item_ids)
        item_hashes = hashes_of(item_ids)
        known = np.isin(item_hashes, catalogue)[items]
        rejected = batch.rejected + batch.unknown(piece, known)
        for row in rejected:
            yield beam.pvalue.TaggedOutput(REJECTED, row)
        # A row counts once when read and once when written or dropped.
        advance(len(known) + len(batch.rejected) + len(rejected))
        yield Rows(
            user_ids,
            hashes_of(user_ids),
            users[known],
            item_hashes[items[known]],
            batch.timestamps[known],
            batch.rows[known],
        )


def _distinct(ids: pa.StringArray) -> tuple[pa.StringArray, np.ndarray]:
    encoded = pc.dictionary_encode(ids)
    return encoded.dictionary, encoded.indices.to_numpy()


def _edges(rows: Rows, with_times: bool) -> tuple[np.ndarray, ...]:
    edges = (rows.user_hashes[rows.users], rows.item_hashes)
    return (*edges, rows.timestamps) if with_times else edges


class _Concatenate(beam.CombineFn):
    """Tuples of arrays to one tuple of longer arrays."""

    def create_accumulator(self) -> list[tuple[np.ndarray, ...]]:
        return []

    def add_input(self, parts: list, arrays: tuple[np.ndarray, ...]) -> list:
        parts.append(arrays)
        return parts

    def merge_accumulators(self, accumulators: Iterable[list]) -> list:
        return [arrays for parts in accumulators for arrays in parts]

    def extract_output(self, parts: list) -> tuple[np.ndarray, ...]:
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _last_times(rows: Rows) -> tuple[np.ndarray, ...]:
    """Hash, last time and interactions of each user, or of one user who shows a real time."""
    last = np.zeros(len(rows.user_hashes), np.int64)
    np.maximum.at(last, rows.users, rows.timestamps)
    counts = np.bincount(rows.users, minlength=len(last))
    if last.max(initial=0) >= splits.LEAST_TIME:
        newest = [int(last.argmax())]
        return rows.user_hashes[newest], last[newest], counts[newest]
    return rows.user_hashes, last, counts


def _are_positions(users: tuple[np.ndarray, ...]) -> bool:
    if not users:
        return False
    hashes, codes = np.unique(users[0], return_inverse=True)
    last = np.zeros(len(hashes), np.int64)
    np.maximum.at(last, codes, users[1])
    counts = np.bincount(codes, users[2], len(hashes)).astype(np.int64)
    return splits.are_positions(last[counts > 0], counts[counts > 0])


def _core(edges: tuple[np.ndarray, ...], k: int, fraction: float | None, positions: bool) -> Core:
    if not edges:
        none = np.zeros(0, np.uint64)
        return Core(none, none, None)
    user_hashes, users = np.unique(edges[0], return_inverse=True)
    item_hashes, items = np.unique(edges[1], return_inverse=True)
    kept = splits.k_core(users, items, k)
    moment = None
    if fraction is not None and kept.any():
        if positions:
            raise InputError(
                "`prepare.split=global_time` needs real times, but the timestamps are positions "
                "0, 1, 2… in each user's history. Use prepare.split=ratio or leave_last_out."
            )
        moment = splits.first_test_time(edges[2][kept], fraction)
    return Core(
        user_hashes[np.unique(users[kept])],
        item_hashes[np.unique(items[kept])],
        moment,
        core_sizes(users, items, k),
    )
