"""Parquet, CSV, TSV and JSON lines, read in batches of rows with their numbers.

A file is read in pieces (a Parquet row group, or a whole text file), so that
workers can share it. Rows keep their number in the file: order within a user is
time, then row number, whatever the workers do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf.errors import InputError
from kdsr_tf.sources import csv_files, json_lines
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, ending, shortened
from kdsr_tf.sources.columns import Names

FORMATS = ("parquet", "csv", "tsv", "jsonl")

_BATCH_BYTES = 64 << 20
_NULL_IN_FIXED_LISTS = "Expected all lists to be of size"
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""Beginnings of gzip, zip (and Excel), bzip2, xz and zstd files."""


@dataclasses.dataclass(frozen=True)
class FilePiece(Piece):
    """A part of a file in one of `FORMATS`; the arguments are those of `Piece`."""

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the file's own column names; `read_batches` renames them."""
        with fsspec.open(self.path, "rb") as file:
            yield from _READERS[ending(self.path)](self, file, columns)


def pieces_of(path: str, names: Names = ()) -> list[Piece]:
    """The pieces of a file, from its metadata alone.

    Args:
        path: Local path or URI.
        names: Columns to rename, as in `Piece`.
    """
    if ending(path) != "parquet":
        return [FilePiece(path, 0, 0, names)]
    with fsspec.open(path, "rb") as file:
        metadata = _parquet(path, file).metadata
        pieces, first_row = [], 0
        for group in range(metadata.num_row_groups):
            pieces.append(FilePiece(path, group, first_row, names))
            first_row += metadata.row_group(group).num_rows
    return pieces


def count_rows(path: str) -> int:
    """Rows of a file: exact for Parquet, lines for text formats."""
    with fsspec.open(path, "rb") as file:
        if ending(path) == "parquet":
            return _parquet(path, file).metadata.num_rows
        lines, last = 0, b"\n"
        while block := file.read(1 << 20):
            # Old programs end lines with carriage returns alone.
            lines += block.count(b"\n") or block.count(b"\r")
            last = block[-1:]
        lines += last not in b"\r\n"
    return max(lines - 1, 0) if ending(path) in csv_files.DELIMITERS else lines


def digest(path: str) -> str:
    """SHA-256 of a file's content."""
    found = hashlib.sha256()
    with fsspec.open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def column_names(path: str) -> list[str]:
    """Columns of a file; of JSON lines, those of its first hundred lines.

    Raises:
        InputError: if the file cannot be read in its format.
    """
    try:
        with fsspec.open(path, "rb") as file:
            return _column_names(path, file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None


def _column_names(path: str, file: Any) -> list[str]:
    if ending(path) == "parquet":
        names = _parquet(path, file).schema_arrow.names
    else:
        start = file.read(6)
        file.seek(0)
        if start.startswith(COMPRESSED):
            raise InputError(f"{path} is compressed, although its name does not say so. Unpack it.")
        if ending(path) in csv_files.DELIMITERS:
            names = csv_files.column_names(path, file) if start else []
        else:
            names = json_lines.column_names(path, file)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path} has two columns {name!r}. Rename one of them.")
    return names


def read_batches(piece: Piece, columns: list[str] | None = None) -> Iterator[Batch]:
    """Read a piece batch by batch.

    Args:
        piece: What to read.
        columns: Columns to read, by their expected names; None reads all.

    Yields:
        Batches of at most `BATCH_ROWS` rows, in file order.
    """
    own = dict(piece.names)
    wanted = None if columns is None else [own.get(name, name) for name in columns]
    for batch in piece.read(wanted):
        if own:
            renamed = {name: batch.columns[o] for name, o in own.items() if o in batch.columns}
            taken = {*renamed, *own.values()}
            kept = {name: column for name, column in batch.columns.items() if name not in taken}
            batch = dataclasses.replace(batch, columns={**kept, **renamed})
        yield batch


def _parquet(path: str, file: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None


def _read_parquet(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    parquet = _parquet(piece.path, file)
    if columns is not None:
        columns = [name for name in columns if name in parquet.schema_arrow.names]
    row, group = piece.first_row, parquet.metadata.row_group(piece.group)
    fitting = max(1, group.num_rows * _BATCH_BYTES // max(group.total_byte_size, 1))
    size = min(BATCH_ROWS, fitting)
    try:
        for batch in parquet.iter_batches(size, row_groups=[piece.group], columns=columns):
            rows = np.arange(row, row + len(batch))
            row += len(batch)
            read = map(_as_bytes_unless_utf8, batch.columns)
            yield Batch(rows, dict(zip(batch.schema.names, read, strict=True)), [])
    except (pa.ArrowException, OSError) as error:
        if _NULL_IN_FIXED_LISTS in str(error):
            raise InputError(
                f"{piece.path} has a column of fixed-size lists with missing values, which Arrow "
                "writes but does not read. Write it as lists of any size: pa.list_(pa.float32())."
            ) from None
        raise InputError(
            f"{piece.path} is damaged after row {row:,}: {error}. Write it again."
        ) from None


def _as_bytes_unless_utf8(column: pa.Array) -> pa.Array:
    """Texts that are not all UTF-8 as bytes, so that only the bad ones are lost."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    for text, raw in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        if column.type == text:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                return column.view(raw)
    return column


def _read_csv(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    return csv_files.read(piece, file, column_names(piece.path), columns)


def _read_jsonl(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    return read_lines(piece, file, columns, json_lines.parse)


def read_lines(
    piece: Piece,
    file: Any,
    columns: list[str] | None,
    parse: Callable[[bytes | None], tuple[dict[str, Any] | None, str]],
) -> Iterator[Batch]:
    """Batches of a file with one record per line; blank lines are passed over.

    Args:
        piece: Names the rows.
        file: Binary file.
        columns: Columns to keep; None keeps all.
        parse: A line (None if it was too long) to its values, or None and a reason.
    """
    rows: list[int] = []
    objects: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    size = 0

    def batch() -> Batch:
        names = columns
        if names is None:
            names = list(dict.fromkeys(name for values in objects for name in values))
        read = {name: [values.get(name) for values in objects] for name in names}
        return Batch(np.asarray(rows, np.int64), read, list(rejected))

    for row, line in enumerate(json_lines.read(file)):
        if line is not None and not line.strip():
            continue
        size += len(line or b"")
        values, reason = parse(line)
        if values is None:
            text = shortened((line or b"").decode("utf-8", "replace").rstrip("\r\n"))
            text = json.dumps(text, ensure_ascii=False)
            rejected.append(Rejected(reason, piece.where(row), text))
        else:
            rows.append(row)
            objects.append(values)
        if len(rows) + len(rejected) >= BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch()
            size = 0
            rows.clear()
            objects.clear()
            rejected.clear()
    if rows or rejected:
        yield batch()


_READERS = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "tsv": _read_csv,
    "jsonl": _read_jsonl,
}
