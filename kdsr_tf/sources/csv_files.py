"""Delimited text, a block at a time: rows that cannot be read are set aside, not the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, rejected_line
from kdsr_tf.sources.table_rows import STRAY_MARK, Block, Dialect, TableRows


def read(
    piece: Piece,
    file: Any,
    dialect: Dialect,
    names: Sequence[str],
    has_header: bool,
    columns: list[str] | None,
) -> Iterator[Batch]:
    """Batches of a file, its values as bytes.

    Args:
        piece: Names the rows.
        file: Binary file.
        dialect: How the text is written.
        names: All columns of the file.
        has_header: Whether its first row is a header.
        columns: Columns to keep; None keeps all.

    Raises:
        InputError: if the file cannot be read.
    """
    wanted = [name for name in names if columns is None or name in columns]
    rows = TableRows(piece.path, file, dialect)
    if has_header:
        rows.first()
    for block in rows.blocks(len(names)):
        values = _values(piece.path, block, dialect, names, wanted)
        rejected = [
            Rejected(reason, piece.where(row), rejected_line(text))
            for row, reason, text in block.rejected
        ]
        lines = block.lines
        for start in range(0, max(len(block.rows), 1), BATCH_ROWS):
            part = block.rows[start : start + BATCH_ROWS]
            columns_of_part = {
                name: column[start : start + BATCH_ROWS] for name, column in values.items()
            }
            yield Batch(part, columns_of_part, rejected, lines)
            rejected, lines = [], 0


class Quoting(NamedTuple):
    """What the quotation marks of a whole file are.

    Args:
        is_quoted: Whether they enclose fields. If a single one of them does not, they are
            characters of unquoted text.
        stray_row: That row, from 0, of a file that has fields in quotation marks before it.
    """

    is_quoted: bool
    stray_row: int | None = None


def find_quoting(path: str, file: Any, delimiter: str, num_fields: int) -> Quoting:
    """Look at the quotation marks of a whole file.

    Args:
        path: Path of the file, for errors.
        file: Binary file.
        delimiter: Character between fields.
        num_fields: Fields of a row.
    """
    has_quoted = False
    for block in TableRows(path, file, Dialect(delimiter)).blocks(num_fields):
        has_quoted = has_quoted or block.has_quoted
        if block.stray_marks:
            stray = [row for row, reason, _ in block.rejected if reason == STRAY_MARK]
            return Quoting(False, stray[0] if has_quoted else None)
    return Quoting(has_quoted)


def _values(
    path: str, block: Block, dialect: Dialect, names: Sequence[str], wanted: list[str]
) -> dict[str, pa.Array]:
    if not len(block.rows):
        return {name: pa.array([], pa.binary()) for name in wanted}
    # Numbers instead of names, of which a file without a header may have two alike.
    fields = {str(k): name for k, name in enumerate(names)}
    needed = [field for field, name in fields.items() if name in wanted] or ["0"]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block.data),
            read_options=pa.csv.ReadOptions(
                column_names=list(fields), use_threads=False, block_size=len(block.data) + 1
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.quoted else False,
                newlines_in_values=dialect.quoted,
            ),
            # Bytes: one value that is not UTF-8 must not take its block with it.
            convert_options=pa.csv.ConvertOptions(
                include_columns=needed, column_types=dict.fromkeys(needed, pa.binary())
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    if len(table) != len(block.rows):
        first, last = int(block.rows[0]) + 1, int(block.rows[-1]) + 1
        raise InputError(
            f"{path} cannot be read as CSV: of rows {first:,} to {last:,}, "
            f"{len(block.rows):,} are well-formed, and {len(table):,} were read."
        )
    columns = table.combine_chunks()
    return {
        fields[field]: _whole(columns.column(field)) for field in needed if fields[field] in wanted
    }


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
