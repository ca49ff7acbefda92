"""CSV and TSV, a block at a time: rows that cannot be read are set aside, not the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv

from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, ending, shortened
from kdsr_tf.sources.marked_bytes import MarkedFile, is_marked, readable, unmarked

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""By the ending of a file's name."""

_BLOCK_BYTES = 16 << 20
_MOST_LINES_OF_ROW = 1_000
_OPEN_QUOTE = "Look for a quotation mark that is never closed."


def column_names(path: str, file: Any) -> list[str]:
    """Columns in the header of a file.

    Raises:
        InputError: if the file is not CSV, or its header not UTF-8.
    """
    try:
        names = _open(path, MarkedFile(file), lambda row: "skip").schema.names
    except pa.ArrowInvalid as error:
        raise _unreadable(path, error) from None
    if any(map(is_marked, names)):
        raise InputError(f"The header of {path} is not UTF-8. Save the file as UTF-8.")
    return names


def read(piece: Piece, file: Any, names: list[str], columns: list[str] | None) -> Iterator[Batch]:
    """Batches of a file, its values as bytes.

    Args:
        piece: Names the rows.
        file: Binary file.
        names: All columns of the file.
        columns: Columns to keep; None keeps all.

    Raises:
        InputError: if the file cannot be read, or a row swallows others.
    """
    wanted = [name for name in names if columns is None or name in columns]
    # A quotation mark left open in the last column goes unnoticed unless that one is read.
    needed = wanted if names[-1] in wanted else [*wanted, names[-1]]
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
        for batch in _open(piece.path, marked, skip, needed):
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
        raise _unreadable(piece.path, error) from None
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
        start = max(0, file.seek(0, 2) - _BLOCK_BYTES)
        file.seek(start)
        return file.read().rstrip().endswith(b'"')


def _refuse_swallowed(rows: list[str]) -> None:
    """A quotation mark left open makes one row of many: too many to lose."""
    if rows:
        raise InputError(f"In CSV, {rows[0]}. {_OPEN_QUOTE}")


def _open(
    path: str, file: Any, skip: Any, wanted: list[str] | None = None
) -> pa.csv.CSVStreamingReader:
    # Bytes: one value that is not UTF-8 must not take its block with it.
    convert = pa.csv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted or (), pa.binary())
    )
    return pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(
            delimiter=DELIMITERS[ending(path)],
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=convert,
    )


def _unreadable(path: str, error: pa.ArrowInvalid) -> InputError:
    if "straddling" in str(error):
        return InputError(
            f"{path} cannot be read as CSV: a row is longer than {_BLOCK_BYTES:,} bytes. "
            f"{_OPEN_QUOTE}"
        )
    return InputError(f"{path} cannot be read as CSV: {error}")
