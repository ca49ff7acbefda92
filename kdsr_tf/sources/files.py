"""Files of every form, read in batches of rows with their numbers.

A file is read in pieces (a Parquet row group, or a whole text file), so that
workers can share it. Rows keep their number in the file: order within a user is
time, then row number, whatever the workers do.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import fsspec
import numpy as np

from kdsr_tf.sources import csv_files, forms, json_arrays, json_lines, parquet_files, user_lines
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, rejected_line
from kdsr_tf.sources.columns import Names
from kdsr_tf.sources.forms import Form
from kdsr_tf.sources.line_counts import Counter, LineCounter, count_all, read_all
from kdsr_tf.sources.parquet_files import Part
from kdsr_tf.sources.streams import opened
from kdsr_tf.sources.table_rows import Dialect

_BATCH_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilePiece(Piece):
    """A part of a file; the other arguments are those of `Piece`.

    Args:
        form: Form of the file.
        part: The Parquet file; None for other forms.
    """

    form: Form
    part: Part | None = None

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the file's own column names; `read_batches` renames them."""
        form = self.form
        if self.part is not None:
            yield from parquet_files.read(self.part, self.group, self.first_row, columns)
            return
        with opened(self.path, form.encoding) as file:
            yield from read_all(
                self.path,
                file,
                _counter(form),
                lambda counted: self._read_text(counted, columns),
                form.header_lines,
            )

    def _read_text(self, file: Any, columns: list[str] | None) -> Iterator[Batch]:
        form, skip = self.form, self.form.header_lines
        if form.kind == forms.TABLE:
            dialect = cast(Dialect, form.dialect)  # an empty file has none; it is refused before
            return csv_files.read(self, file, dialect, form.columns, skip > 0, columns)
        if form.kind == forms.USERS:
            return user_lines.read(self, file, form.delimiter, skip)
        is_array = form.kind == forms.ARRAY
        records: Iterable[bytes | json_lines.Objects | None]
        records = json_arrays.elements(self.path, file) if is_array else json_lines.read(file)
        return read_records(self, records, columns, json_lines.parse)


def pieces_of(path: str, form: Form, names: Names = ()) -> list[Piece]:
    """The pieces of a file, from its metadata only.

    Args:
        path: Local path or URI.
        form: Its form.
        names: Columns to rename, as in `Piece`.
    """
    if form.kind != forms.PARQUET:
        return [FilePiece(path=path, group=0, first_row=0, names=names, form=form)]
    pieces: list[Piece] = []
    first_row = 0
    for part in form.parts:
        for group, rows in enumerate(parquet_files.row_groups(part)):
            pieces.append(
                FilePiece(
                    path=path,
                    group=group,
                    first_row=first_row,
                    names=names,
                    form=dataclasses.replace(form, parts=()),
                    part=part,
                )
            )
            first_row += rows
    return pieces


def count_lines(path: str, form: Form) -> int:
    """Lines of a file without empty ones and without the header; of Parquet, its rows.

    Whatever reads the file must account for all of them: `Batch.num_lines`.
    """
    if form.kind == forms.PARQUET:
        return sum(sum(parquet_files.row_groups(part)) for part in form.parts)
    with opened(path, form.encoding) as file:
        return count_all(file, _counter(form)) - form.header_lines


def _counter(form: Form) -> Counter:
    if form.kind == forms.ARRAY:
        return json_arrays.ElementCounter()
    return LineCounter.of_rows() if form.kind == forms.TABLE else LineCounter.of_records()


def digest(path: str) -> str:
    """SHA-256 of a file's content, or of that of all files of a folder."""
    found = hashlib.sha256()
    for part in parquet_files.parts_of(path) if parquet_files.is_folder(path) else [Part(path)]:
        with fsspec.open(part.path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
    return found.hexdigest()


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


def read_records(
    piece: Piece,
    records: Iterable[bytes | json_lines.Objects | None],
    columns: list[str] | None,
    parse: Callable[[bytes | None], tuple[dict[str, Any] | None, str]],
) -> Iterator[Batch]:
    """Batches of lines, or of elements of a list; blank lines are passed over.

    Args:
        piece: Names the rows.
        records: Lines (None for one that was too long), or elements of a list.
        columns: Columns to keep; None keeps all.
        parse: A line to its values, or None and a reason.
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

    row = 0
    for record in records:
        more = len(record.values) if isinstance(record, json_lines.Objects) else 1
        is_full = len(rows) + len(rejected) + more > BATCH_ROWS or size >= _BATCH_BYTES
        if is_full and (rows or rejected):
            yield batch()
            size = 0
            rows.clear()
            objects.clear()
            rejected.clear()
        if isinstance(record, json_lines.Objects):
            rows += range(row, row + len(record.values))
            objects += record.values
            size, row = size + record.size, row + len(record.values)
            continue
        row += 1
        if record is not None and not record.strip():
            continue
        size += len(record or b"")
        values, reason = parse(record)
        if values is None:
            rejected.append(Rejected(reason, piece.where(row - 1), rejected_line(record or b"")))
        else:
            rows.append(row - 1)
            objects.append(values)
    if rows or rejected:
        yield batch()
