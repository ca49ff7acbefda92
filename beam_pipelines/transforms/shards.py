"""Files whose bytes do not depend on workers, bundles or input order.

A record's shard is a stable hash of its key modulo a shard count that comes
from the configuration or the data size. Records are grouped by shard, sorted
inside it and written as one file each. (Beam's own file sinks spread records
from a random start.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import apache_beam as beam
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf.artifacts import join
from kdsr_tf.hashing import shard_of

Writer = Callable[[str, Iterable[Any]], None]
"""Writes sorted records into one new file: `writer(path, records)`."""


def shard_path(directory: str, stem: str, shard: int, num_shards: int, suffix: str) -> str:
    """Path of one shard, such as `.../vectors-00000-of-00004.parquet`."""
    return join(directory, f"{stem}-{shard:05d}-of-{num_shards:05d}{suffix}")


def default_num_shards(num_records: int, records_per_shard: int) -> int:
    """Shard count from the data size, never from the number of workers."""
    return max(1, -(-num_records // records_per_shard))


@dataclasses.dataclass(frozen=True)
class ParquetWriter:
    """Writes mappings as rows of a Parquet file.

    Args:
        schema: Columns; every record holds a value (or None) for each.

    Example:
        >>> writer = ParquetWriter(pa.schema([("item", pa.int32())]))
        >>> writer("/tmp/items.parquet", [{"item": 1}, {"item": 2}])
    """

    schema: pa.Schema
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[Mapping[str, Any]]) -> None:
        write_table(path, pa.Table.from_pylist(list(records), schema=self.schema))


def write_table(path: str, table: pa.Table) -> None:
    """Write a table as Parquet to a local path or a URI.

    Vectors have no dictionary: of numbers that are all different it takes four times as
    long to make, and makes the file larger.
    """
    vectors = any(pa.types.is_fixed_size_list(field.type) for field in table.schema)
    with fsspec.open(path, "wb") as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=not vectors)


class WriteShards(beam.PTransform):
    """Write records into `num_shards` deterministic files, empty shards included.

    Args:
        directory: Existing local folder or URI.
        stem: File names are `{stem}-SSSSS-of-NNNNN{suffix}`.
        num_shards: Number of files, > 0.
        key_fn: Record to the string or bytes that decides its shard.
        sort_fn: Record to its sort key inside the shard; keys must be distinct
            for the bytes to be independent of the input order.
        writer: Writes one file; a `suffix` attribute names its ending.

    Returns:
        A collection of `(shard, path, number of records)`, one per file.

    Example:
        >>> _ = vectors | WriteShards(  # doctest: +SKIP
        ...     folder, "vectors", 4, key_fn=lambda row: str(row["item"]),
        ...     sort_fn=operator.itemgetter("item"), writer=ParquetWriter(schema))
    """

    def __init__(
        self,
        directory: str,
        stem: str,
        num_shards: int,
        key_fn: Callable[[Any], str | bytes],
        sort_fn: Callable[[Any], Any],
        writer: Writer,
    ):
        super().__init__()
        if num_shards < 1:
            raise ValueError(f"`num_shards` must be > 0. Received: num_shards={num_shards}.")
        self._directory = directory
        self._stem = stem
        self._num_shards = num_shards
        self._key_fn = key_fn
        self._sort_fn = sort_fn
        self._writer = writer

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        num_shards, key_fn = self._num_shards, self._key_fn
        return (
            records
            | "Shard" >> beam.Map(lambda record: (shard_of(key_fn(record), num_shards), record))
            | "Group" >> GroupShards(num_shards)
            | "Write"
            >> beam.ParDo(
                _WriteShard(self._directory, self._stem, num_shards, self._sort_fn, self._writer)
            )
        )


class GroupShards(beam.PTransform):
    """`(shard, record)` to `(shard, records)`, shards without records included.

    `beam.Create` and `beam.CoGroupByKey` would do the same in three times as many
    transforms, and a small job spends most of its time on building its pipeline.

    Args:
        num_shards: Number of shards; a list of records of one is held in memory.
    """

    def __init__(self, num_shards: int):
        super().__init__()
        self._num_shards = num_shards

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        num_shards = self._num_shards
        every = (
            records.pipeline
            | "Once" >> beam.Impulse()
            | "All shards" >> beam.FlatMap(lambda _: ((shard, None) for shard in range(num_shards)))
        )
        return (
            (records, every)
            # Said, not inferred: a type of either gives other coders before and after a group.
            | "Shards" >> beam.Flatten().with_output_types(tuple[int, Any])
            | "By shard" >> beam.GroupByKey()
            | "Records" >> beam.MapTuple(_without_markers)
        )


def _without_markers(shard: int, records: Iterable[Any]) -> tuple[int, list[Any]]:
    return shard, [record for record in records if record is not None]


class _WriteShard(beam.DoFn):
    def __init__(
        self,
        directory: str,
        stem: str,
        num_shards: int,
        sort_fn: Callable[[Any], Any],
        writer: Writer,
    ):
        self._directory = directory
        self._stem = stem
        self._num_shards = num_shards
        self._sort_fn = sort_fn
        self._writer = writer

    def process(self, element: tuple[int, list[Any]]) -> Any:
        shard, records = element
        suffix = getattr(self._writer, "suffix", "")
        path = shard_path(self._directory, self._stem, shard, self._num_shards, suffix)
        self._writer(path, sorted(records, key=self._sort_fn))
        yield shard, path, len(records)
