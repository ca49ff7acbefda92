"""Files of every form, read in batches of rows with their numbers.

A file is read in pieces (a Parquet row group, or a whole text file), so that
workers can share it. Rows keep their number in the file: order within a user is
time, then row number, whatever the workers do. Lines of a text are counted while it is
read, so that a reader cannot lose a row unnoticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any, cast

import fsspec
import numpy as np

from kdsr_tf.errors import InputError
from kdsr_tf.sources import csv_files, forms, json_records, parquet_files, user_lines
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Names, Piece, Rejected, rejected_line
from kdsr_tf.sources.forms import Form
from kdsr_tf.sources.parquet_files import Part
from kdsr_tf.sources.streams import opened
from kdsr_tf.sources.table_rows import Dialect

_BATCH_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilePiece(Piece):
    """A part of a file of a form: of Parquet a row group (`group`) of a file (`part`)."""

    form: Form
    part: Part | None = None
    group: int = 0

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the file's own column names; `read_batches` renames them."""
        if self.part is not None:
            yield from parquet_files.read(self.part, self.group, self.first_row, columns)
            return
        with opened(self.path, self.form.encoding) as file:
            counted = _CountedFile(file, self.form)
            lines = self.form.header_lines
            for batch in self._read_text(counted, columns):
                lines += batch.num_lines
                yield batch
            # The reader of a list of JSON parses it as a whole.
            if self.form.kind != forms.ARRAY and lines != counted.count:
                raise InputError(
                    f"{self.path} has {counted.count:,} lines, but {lines:,} were read. This is a "
                    "mistake of the reader, not of the file. Please report it, and bring the file "
                    "as Parquet."
                )

    def _read_text(self, file: Any, columns: list[str] | None) -> Iterator[Batch]:
        form, skip = self.form, self.form.header_lines
        if form.kind == forms.TABLE:
            dialect = cast(Dialect, form.dialect)  # an empty file has none; it is refused before
            return csv_files.read(self, file, dialect, form.columns, skip > 0, columns)
        if form.kind == forms.USERS:
            return user_lines.read(self, file, form.delimiter, skip)
        records = json_records.read(self.path, file, form.kind == forms.ARRAY)
        return read_records(self, records, columns, json_records.parse)


def pieces_of(path: str, form: Form, names: Names = ()) -> list[Piece]:
    """The pieces of a file, from its metadata only."""
    if form.kind != forms.PARQUET:
        return [FilePiece(path, names, form=form)]
    pieces: list[Piece] = []
    first_row, of_part = 0, dataclasses.replace(form, parts=())
    for part in form.parts:
        for group, rows in enumerate(parquet_files.row_groups(part)):
            pieces.append(FilePiece(path, names, first_row, form=of_part, part=part, group=group))
            first_row += rows
    return pieces


def count_lines(path: str, form: Form) -> int:
    """Lines of a file without empty ones and without the header; of Parquet, its rows.

    Whatever reads the file must account for all of them: `Batch.num_lines`.
    """
    if form.kind == forms.PARQUET:
        return sum(sum(parquet_files.row_groups(part)) for part in form.parts)
    with opened(path, form.encoding) as file:
        if form.kind == forms.ARRAY:
            return json_records.count_elements(path, file)
        counted = _CountedFile(file, form)
        while counted.read(_BLOCK_BYTES):
            pass
        return counted.count - form.header_lines


class _CountedFile(io.RawIOBase):
    """A text file that counts its lines while it is read, but for empty ones.

    A carriage return ends a line of a table too, and a space is a value there. Of other texts a
    line of blanks is empty.
    """

    def __init__(self, file: Any, form: Form):
        super().__init__()
        of_table = form.kind == forms.TABLE
        self._is_end, self._is_blank = np.zeros(256, bool), np.zeros(256, bool)
        self._is_end[list(b"\n\r" if of_table else b"\n")] = True
        self._is_blank[list(b"" if of_table else b"\t\v\f\r ")] = True
        self._file = file
        self._start = b""
        self._has_started = self._in_line = False
        self.count = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        data = self._file.read(len(buffer))
        self._feed(data)
        buffer[: len(data)] = data
        return len(data)

    def _feed(self, data: bytes) -> None:
        if not self._has_started:
            self._start += data
            if len(self._start) < len(BOM_UTF8) and data:
                return
            data, self._has_started = self._start.removeprefix(BOM_UTF8), True
        characters = np.frombuffer(data, np.uint8)
        is_end = self._is_end[characters[~self._is_blank[characters]]]
        if len(is_end):
            before = np.append(not self._in_line, is_end[:-1])
            self.count += int((before & ~is_end).sum())
            self._in_line = not is_end[-1]


def digest(path: str) -> str:
    """SHA-256 of a file's content, or of that of all files of a folder."""
    found = hashlib.sha256()
    for part in parquet_files.parts_of(path) if parquet_files.is_folder(path) else [Part(path)]:
        with fsspec.open(part.path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
    return found.hexdigest()


def read_batches(piece: Piece, columns: list[str] | None = None) -> Iterator[Batch]:
    """Batches of a piece in file order, each of at most `BATCH_ROWS` rows.

    `columns` are those to read, by their expected names; None reads all.
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
    records: json_records.Records,
    columns: list[str] | None,
    parse: Callable[[bytes | None], tuple[dict[str, Any] | None, str]],
) -> Iterator[Batch]:
    """Batches of lines, or of elements of a list; blank lines are passed over.

    `piece` names the rows. `columns` are those to keep; None keeps all. `parse` makes values of a
    line, or None and a reason.
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
        more = len(record.values) if isinstance(record, json_records.Objects) else 1
        is_full = len(rows) + len(rejected) + more > BATCH_ROWS or size >= _BATCH_BYTES
        if is_full and (rows or rejected):
            yield batch()
            size = 0
            rows.clear()
            objects.clear()
            rejected.clear()
        if isinstance(record, json_records.Objects):
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
