"""Files whose bytes do not depend on workers, bundles or input order.

A record's shard is a stable hash of its key modulo a shard count that comes
from the configuration or the data size. Records are grouped by shard, sorted
inside it and written as one file each. (Beam's own file sinks spread records
from a random start.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    Example:
        >>> writer = ParquetWriter(pa.schema([("item", pa.int32())]))
        >>> writer("/tmp/items.parquet", [{"item": 1}, {"item": 2}])
    """

    schema: pa.Schema  # Columns; every record holds a value (or None) for each
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


@dataclasses.dataclass(frozen=True)
class Files:
    """How records of one kind become files."""

    num_shards: int  # Number of files, > 0
    key_fn: Callable[[Any], str | bytes]  # Record to the string or bytes that decides its shard
    # Record to its sort key inside the shard; keys must be distinct for the bytes to be independent
    # of the input order
    sort_fn: Callable[[Any], Any]
    writer: Writer  # Writes one file; a `suffix` attribute names its ending

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise ValueError(f"`num_shards` must be > 0. Received: num_shards={self.num_shards}.")


class WriteShards(beam.PTransform):
    """Write `(stem, record)` into deterministic files, empty shards included.

    One group for files of every kind: each more would be two passes over a pipeline.

    Args:
        directory: Existing local folder or URI.
        files: How records of a stem become files `{stem}-SSSSS-of-NNNNN{suffix}`.
    """

    def __init__(self, directory: str, files: Mapping[str, Files]):
        super().__init__()
        self._directory = directory
        self._files = dict(files)

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        places = [
            (stem, shard)
            for stem, files in self._files.items()
            for shard in range(files.num_shards)
        ]
        first = {stem: places.index((stem, 0)) for stem in self._files}
        return (
            records
            | "Shard" >> beam.Map(_place, self._files, first)
            | "Group" >> GroupShards(len(places))
            | "Write" >> beam.Map(_write, self._directory, self._files, places)
        )


def _place(
    element: tuple[str, Any], files: Mapping[str, Files], first: Mapping[str, int]
) -> tuple[int, Any]:
    stem, record = element
    own = files[stem]
    return first[stem] + shard_of(own.key_fn(record), own.num_shards), record


def _write(
    element: tuple[int, list[Any]],
    directory: str,
    files: Mapping[str, Files],
    places: Sequence[tuple[str, int]],
) -> None:
    place, records = element
    stem, shard = places[place]
    own = files[stem]
    suffix = getattr(own.writer, "suffix", "")
    path = shard_path(directory, stem, shard, own.num_shards, suffix)
    own.writer(path, sorted(records, key=own.sort_fn))


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
