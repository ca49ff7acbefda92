"""Dead letters: rows that a job could not use, with the reason."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import pyarrow as pa

from beam_pipelines.transforms.shards import Files, ParquetWriter
from kdsr_tf.sources.batches import Rejected

REJECTED_SCHEMA = pa.schema([("reason", pa.string()), ("where", pa.string()), ("row", pa.string())])


Tally = tuple[int, tuple[int, str, str]]
"""How many rows, and the first of them: length of its place, place, example."""

DEAD_LETTERS = "rejected"
"""Files of dead letters are `rejected-*.parquet`."""

ROWS, REJECTED = "rows", "rejected"
"""Outputs of what reads rows: the good ones, and `Rejected` ones."""


def dead_letter(rejected: Rejected) -> tuple[str, dict[str, str]]:
    """A rejected row as `WriteShards` takes it."""
    return DEAD_LETTERS, rejected._asdict()


def rejected_files(num_shards: int = 1) -> Files:
    """How dead letters become files: in the order of the rows they come from."""
    return Files(num_shards, _where, _file_order, ParquetWriter(REJECTED_SCHEMA))


class TallyReasons(beam.PTransform):
    """Count rejected rows by file and reason.

    Gives `((file name, reason), (count, where the first of them is and what it holds))`.
    """

    def expand(self, rejected: beam.PCollection) -> beam.PCollection:
        return (
            rejected
            | "By reason" >> beam.Map(_by_reason)
            | "Tally" >> beam.CombinePerKey(_tally)
            | "Plain" >> beam.MapTuple(lambda key, value: (key, (value[0], value[1][2])))
        )


def _where(row: dict[str, str]) -> str:
    return row["where"]


def _file_order(row: dict[str, str]) -> tuple[int, str, str, str]:
    # Longer row numbers of one file are larger.
    return len(row["where"]), row["where"], row["reason"], row["row"]


def _by_reason(row: Rejected) -> tuple[tuple[str, str], Tally]:
    file_name = row.where.rpartition(" row ")[0]
    return (file_name, row.reason), (1, (len(row.where), row.where, row.example))


def _tally(values: Iterable[Tally]) -> Tally:
    counts, places = zip(*values, strict=True)
    return sum(counts), min(places)
