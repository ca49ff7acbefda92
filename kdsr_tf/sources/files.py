"""Parquet, CSV and JSON lines, read in batches of rows with their numbers.

A file is read in pieces (a Parquet row group, or a whole text file), so that
workers can share it. Rows keep their number in the file: order within a user is
time, then row number, whatever the workers do.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from kdsr_tf.errors import InputError

BATCH_ROWS = 65_536
"""Most rows of a batch."""

FORMATS = ("parquet", "csv", "jsonl")

_HEAD_LINES = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Rejected(NamedTuple):
    """A row that cannot be used.

    Args:
        reason: Short and equal for equal causes, so that reasons can be counted.
        where: File and row.
        row: The row as JSON.
    """

    reason: str
    where: str
    row: str


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file that one worker reads.

    Args:
        path: Local path or URI.
        group: Row group of a Parquet file; 0 for other formats.
        first_row: Rows of the file before this piece.
    """

    path: str
    group: int
    first_row: int

    @property
    def format(self) -> str:
        """Ending of the file's name: one of `FORMATS`."""
        return self.path.rsplit(".", 1)[-1]

    def where(self, row: int) -> str:
        """Name of a row in error messages; rows count from 1."""
        return f"{posixpath.basename(self.path)} row {row + 1}"


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some rows of a piece.

    Args:
        rows: Row numbers in the file from 0, int64 `[n]`.
        columns: Per column `n` values: an Arrow array (Parquet, CSV as bytes)
            or a list (JSON lines). A column absent from the file is left out.
        rejected: Rows that could not be read at all.
    """

    rows: np.ndarray
    columns: dict[str, pa.Array | list[Any]]
    rejected: list[Rejected]


def pieces_of(path: str) -> list[Piece]:
    """The pieces of a file, from its metadata alone."""
    if not path.endswith(".parquet"):
        return [Piece(path, 0, 0)]
    with fsspec.open(path, "rb") as file:
        metadata = _parquet(path, file).metadata
        pieces, first_row = [], 0
        for group in range(metadata.num_row_groups):
            pieces.append(Piece(path, group, first_row))
            first_row += metadata.row_group(group).num_rows
    return pieces


def count_rows(path: str) -> int:
    """Rows of a file: exact for Parquet, lines for text formats."""
    with fsspec.open(path, "rb") as file:
        if path.endswith(".parquet"):
            return _parquet(path, file).metadata.num_rows
        lines = 0
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
    return lines


def column_names(path: str) -> list[str]:
    """Columns of a file; of JSON lines, those of its first hundred lines.

    Raises:
        InputError: if the file cannot be read in its format.
    """
    with fsspec.open(path, "rb") as file:
        if path.endswith(".parquet"):
            return _parquet(path, file).schema_arrow.names
        if path.endswith(".csv"):
            try:
                skip = pa.csv.ParseOptions(invalid_row_handler=lambda row: "skip")
                return pa.csv.open_csv(file, parse_options=skip).schema.names
            except pa.ArrowInvalid as error:
                raise InputError(f"{path} cannot be read as CSV: {error}") from None
        names: dict[str, None] = {}
        for _, line in zip(range(_HEAD_LINES), file, strict=False):
            values, _ = _parse_json(line.removeprefix(_BYTE_ORDER_MARK))
            names.update(dict.fromkeys(values or ()))
        return list(names)


def read_batches(piece: Piece, columns: list[str] | None = None) -> Iterator[Batch]:
    """Read a piece batch by batch.

    Args:
        piece: What to read.
        columns: Columns to read; None reads all.

    Yields:
        Batches of at most `BATCH_ROWS` rows, in file order.
    """
    with fsspec.open(piece.path, "rb") as file:
        yield from _READERS[piece.format](piece, file, columns)


def _parquet(path: str, file: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None


def _read_parquet(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    parquet = _parquet(piece.path, file)
    if columns is not None:
        columns = [name for name in columns if name in parquet.schema_arrow.names]
    row = piece.first_row
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[piece.group], columns=columns):
        rows = np.arange(row, row + len(batch))
        row += len(batch)
        yield Batch(rows, dict(zip(batch.schema.names, batch.columns, strict=True)), [])


def _read_csv(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    names = column_names(piece.path)
    wanted = [name for name in names if columns is None or name in columns]
    rejected: list[Rejected] = []
    skipped: list[int] = []

    def skip(invalid: pa.csv.InvalidRow) -> str:
        # `number` counts the header as row 1.
        skipped.append(invalid.number - 2)
        text = json.dumps(invalid.text, ensure_ascii=False)
        where = piece.where(invalid.number - 2)
        rejected.append(Rejected("wrong number of CSV fields", where, text))
        return "skip"

    reader = pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(use_threads=False),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        # Bytes: one value that is not UTF-8 must not take its block with it.
        convert_options=pa.csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary())
        ),
    )
    row = reported = 0
    for batch in reader:
        # The reader works ahead: `skipped` may name rows of later batches too.
        rows = np.arange(row, row + len(batch) + len(skipped))
        rows = rows[~np.isin(rows, skipped)][: len(batch)]
        row = int(rows[-1]) + 1 if len(rows) else row
        read = dict(zip(batch.schema.names, batch.columns, strict=True))
        found = rejected[reported:]
        reported += len(found)
        yield Batch(rows, read, found)
    if len(rejected) > reported:
        yield Batch(np.arange(0), {name: [] for name in wanted}, rejected[reported:])


def _read_jsonl(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    rows: list[int] = []
    objects: list[dict[str, Any]] = []
    rejected: list[Rejected] = []

    def batch() -> Batch:
        names = columns
        if names is None:
            names = list(dict.fromkeys(name for values in objects for name in values))
        read = {name: [values.get(name) for values in objects] for name in names}
        return Batch(np.asarray(rows, np.int64), read, list(rejected))

    for row, line in enumerate(file):
        line = line.removeprefix(_BYTE_ORDER_MARK) if row == 0 else line
        if not line.strip():
            continue
        values, reason = _parse_json(line)
        if values is None:
            text = json.dumps(line.decode("utf-8", "replace").rstrip("\n"), ensure_ascii=False)
            rejected.append(Rejected(reason, piece.where(row), text))
        else:
            rows.append(row)
            objects.append(values)
        if len(rows) + len(rejected) >= BATCH_ROWS:
            yield batch()
            rows.clear()
            objects.clear()
            rejected.clear()
    if rows or rejected:
        yield batch()


def _parse_json(line: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        values = json.loads(line)
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "not valid JSON"
    return (values, "") if isinstance(values, dict) else (None, "not a JSON object")


_READERS = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_jsonl}
