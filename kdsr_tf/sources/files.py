"""Parquet, CSV, TSV and JSON lines, read in batches of rows with their numbers.

A file is read in pieces (a Parquet row group, or a whole text file), so that
workers can share it. Rows keep their number in the file: order within a user is
time, then row number, whatever the workers do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from kdsr_tf.errors import InputError
from kdsr_tf.sources import json_lines
from kdsr_tf.sources.columns import Names
from kdsr_tf.sources.marked_bytes import MarkedFile, is_marked, readable, unmarked

BATCH_ROWS = 65_536
"""Most rows of a batch; large rows come in smaller batches."""

FORMATS = ("parquet", "csv", "tsv", "jsonl")

TFDS_PREFIX = "tfds:"
"""Beginning of a path that names a TFDS dataset instead of a file."""

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BATCH_BYTES = 64 << 20
_CSV_BLOCK_BYTES = 16 << 20
_MOST_LINES_OF_ROW = 1_000
_LONGEST_REJECTED_TEXT = 2_000
_OPEN_QUOTE = "Look for a quotation mark that is never closed."
_NULL_IN_FIXED_LISTS = "Expected all lists to be of size"
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""Beginnings of gzip, zip (and Excel), bzip2, xz and zstd files."""


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
        names: Columns to rename: `(expected name, name in the file)`.
    """

    path: str
    group: int
    first_row: int
    names: Names = ()

    @property
    def format(self) -> str:
        """Ending of the file's name: one of `FORMATS`."""
        return _ending(self.path)

    def where(self, row: int) -> str:
        """Name of a row in error messages; rows count from 1."""
        return f"{label(self.path)} row {row + 1}"

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the file's own column names; `read_batches` renames them."""
        with fsspec.open(self.path, "rb") as file:
            yield from _READERS[self.format](self, file, columns)


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


def label(path: str) -> str:
    """Short name of a file in dead letters: its last part, or a whole `tfds:` name."""
    return path if path.startswith(TFDS_PREFIX) else posixpath.basename(path)


def _ending(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def pieces_of(path: str, names: Names = ()) -> list[Piece]:
    """The pieces of a file, from its metadata alone.

    Args:
        path: Local path or URI.
        names: Columns to rename, as in `Piece`.
    """
    if not path.endswith(".parquet"):
        return [Piece(path, 0, 0, names)]
    with fsspec.open(path, "rb") as file:
        metadata = _parquet(path, file).metadata
        pieces, first_row = [], 0
        for group in range(metadata.num_row_groups):
            pieces.append(Piece(path, group, first_row, names))
            first_row += metadata.row_group(group).num_rows
    return pieces


def count_rows(path: str) -> int:
    """Rows of a file: exact for Parquet, lines for text formats."""
    with fsspec.open(path, "rb") as file:
        if path.endswith(".parquet"):
            return _parquet(path, file).metadata.num_rows
        lines, last = 0, b"\n"
        while block := file.read(1 << 20):
            # Old programs end lines with carriage returns alone.
            lines += block.count(b"\n") or block.count(b"\r")
            last = block[-1:]
        lines += last not in b"\r\n"
    return max(lines - 1, 0) if _ending(path) in _DELIMITERS else lines


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
    if path.endswith(".parquet"):
        names = _parquet(path, file).schema_arrow.names
    else:
        start = file.read(6)
        file.seek(0)
        if start.startswith(_COMPRESSED):
            raise InputError(f"{path} is compressed, although its name does not say so. Unpack it.")
        if _ending(path) in _DELIMITERS:
            names = _csv_columns(path, file) if start else []
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


def shortened(text: str) -> str:
    """Text of a dead letter: encodable, and cut if it is long."""
    text = text if len(text) <= _LONGEST_REJECTED_TEXT else text[:_LONGEST_REJECTED_TEXT] + "…"
    return text.encode("utf-8", "replace").decode()


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


def _csv_columns(path: str, file: Any) -> list[str]:
    try:
        names = _open_csv(path, MarkedFile(file), lambda row: "skip").schema.names
    except pa.ArrowInvalid as error:
        raise _unreadable_csv(path, error) from None
    if any(map(is_marked, names)):
        raise InputError(f"The header of {path} is not UTF-8. Save the file as UTF-8.")
    return names


def _read_csv(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    names = column_names(piece.path)
    wanted = [name for name in names if columns is None or name in columns]
    # A quotation mark left open in the last column goes unnoticed unless that one is read.
    read = wanted if names[-1] in wanted else [*wanted, names[-1]]
    rejected: list[Rejected] = []
    skipped: list[int] = []
    swallowed: list[str] = []
    unclosed: list[str] = []

    def skip(invalid: pa.csv.InvalidRow) -> str:
        lines = invalid.text.count("\n") + 1
        if lines > _MOST_LINES_OF_ROW:
            swallowed.append(_spans(piece.path, invalid.number - 2, lines))
        # `number` counts the header as row 1.
        skipped.append(invalid.number - 2)
        odd = lines > 1 and invalid.text.count('"') % 2
        unclosed[:] = [_spans(piece.path, invalid.number - 2, lines)] if odd else []
        text = json.dumps(shortened(readable(invalid.text)), ensure_ascii=False)
        where = piece.where(invalid.number - 2)
        rejected.append(Rejected("wrong number of CSV fields", where, text))
        return "skip"

    row = reported = 0
    end = b""
    marked = MarkedFile(file)
    try:
        for batch in _open_csv(piece.path, marked, skip, read):
            _refuse_swallowed(swallowed)
            # The reader works ahead: `skipped` may name rows of later batches too.
            rows = np.arange(row, row + len(batch) + len(skipped))
            rows = rows[~np.isin(rows, skipped)][: len(batch)]
            if len(rows):
                row, end = int(rows[-1]) + 1, batch.column(names[-1])[-1].as_py()
            found = rejected[reported:]
            reported += len(found)
            for start in range(0, len(batch), BATCH_ROWS):
                part = batch.slice(start, BATCH_ROWS)
                values = {name: part.column(name) for name in wanted}
                if marked.has_marks:
                    values = {name: unmarked(column) for name, column in values.items()}
                yield Batch(rows[start : start + BATCH_ROWS], values, [] if start else found)
    except pa.ArrowInvalid as error:
        raise _unreadable_csv(piece.path, error) from None
    if max(skipped, default=-1) >= row:
        swallowed += unclosed
    elif b"\n" in end and not _ends_in_quote(piece.path):
        swallowed.append(_spans(piece.path, row - 1, end.rstrip().count(b"\n") + 1))
    _refuse_swallowed(swallowed)
    if len(rejected) > reported:
        yield Batch(np.arange(0), {name: [] for name in wanted}, rejected[reported:])


def _spans(path: str, row: int, lines: int) -> str:
    return f"row {row + 1} of {path} spans {lines:,} lines"


def _ends_in_quote(path: str) -> bool:
    """Whether the last character that is no blank is a quotation mark."""
    with fsspec.open(path, "rb") as file:
        start = max(0, file.seek(0, 2) - _CSV_BLOCK_BYTES)
        file.seek(start)
        return file.read().rstrip().endswith(b'"')


def _refuse_swallowed(rows: list[str]) -> None:
    """A quotation mark left open makes one row of many: too many to lose."""
    if rows:
        raise InputError(f"In CSV, {rows[0]}. {_OPEN_QUOTE}")


def _open_csv(
    path: str, file: Any, skip: Any, wanted: list[str] | None = None
) -> pa.csv.CSVStreamingReader:
    # Bytes: one value that is not UTF-8 must not take its block with it.
    convert = pa.csv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted or (), pa.binary())
    )
    return pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(
            delimiter=_DELIMITERS[_ending(path)],
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=convert,
    )


def _unreadable_csv(path: str, error: pa.ArrowInvalid) -> InputError:
    if "straddling" in str(error):
        return InputError(
            f"{path} cannot be read as CSV: a row is longer than {_CSV_BLOCK_BYTES:,} bytes. "
            f"{_OPEN_QUOTE}"
        )
    return InputError(f"{path} cannot be read as CSV: {error}")


def _read_jsonl(piece: Piece, file: Any, columns: list[str] | None) -> Iterator[Batch]:
    yield from read_lines(piece, file, columns, json_lines.parse)


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
