"""Delimited text: what its first lines tell, and reading it a block at a time.

Rows that cannot be read are set aside, not the file.
"""

from __future__ import annotations

import collections
import csv
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, rejected_line
from kdsr_tf.sources.table_rows import STRAY_MARK, Block, Dialect, TableRows

_DELIMITERS = (",", ";", "\t", "|")
_SHARE = 0.8
"""Lines that must have as many fields as the first one."""

_NUMBER = re.compile(r"\s*[-+]?\d[\d.,:TZ/ -]*(e[-+]?\d+)?\s*", re.IGNORECASE)
_TYPE = re.compile(r"(.+):(token|token_seq|float|float_seq)")


def read(
    piece: Piece,
    file: Any,
    dialect: Dialect,
    names: Sequence[str],
    has_header: bool,
    columns: list[str] | None,
) -> Iterator[Batch]:
    """Batches of a file, its values as bytes.

    `piece` names the rows, `names` all columns of the file, and `columns` those to keep: None keeps
    all.
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
    """Look at the quotation marks of a whole file, whose rows have `num_fields` fields."""
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
    names_read = (field for field in needed if fields[field] in wanted)
    return {fields[field]: table.column(field).combine_chunks() for field in names_read}


def delimiter_of(path: str, lines: Sequence[str], own: str | None, wanted: Collection[str]) -> str:
    """Delimiter of delimited text with at least one line; one that cannot be told is an error.

    The first line decides if it holds an expected column name (`wanted`). Otherwise it is the one
    that splits the lines into equally many fields. `own` is what the ending of the name tells.
    """
    named = [d for d in (*_DELIMITERS, " ") if _holds(split(lines[0], d), wanted)]
    if own in named or len(named) > len(_DELIMITERS):
        return own or ","
    if len(named) == 1:
        return named[0]
    even = [d for d in _DELIMITERS if _is_even(lines, d)] or [d for d in " " if _is_even(lines, d)]
    if len(even) == 1:
        return even[0]
    if own is None:
        received = "none" if not even else " and ".join(map(repr, even))
        raise InputError(
            f"{path}: the character between its columns cannot be told; {received} would fit. "
            f"First line: {lines[0][:80]!r}. Name it: --delimiter to `kdsr data import`."
        )
    return own


def user_lines_hint(lines: Sequence[str], wanted: Collection[str]) -> bool:
    """Whether the lines can only be users with the items of each.

    They can if no table of interactions, which takes three columns, has such lines: one
    tab and items behind it, or numbers of fields that differ from line to line.
    """
    if len(lines) < 2 or any(_holds(split(lines[0], d), wanted) for d in (*_DELIMITERS, " ")):
        return False
    if all(line.strip().count("\t") == 1 for line in lines):
        items = [re.split(r"[ ,]+", line.strip().partition("\t")[2].strip()) for line in lines]
        return any(len(found) > 1 for found in items)
    for delimiter in "\t ":
        counts = collections.Counter(len(split(line.strip(), delimiter)) for line in lines)
        if min(counts) > 1 and counts.most_common(1)[0][1] < _SHARE * len(lines):
            return True
    return False


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether a first line holds a number or a time, as a header hardly ever does."""
    return any(_NUMBER.fullmatch(name) for name in names)


def untyped(names: Sequence[str]) -> list[str]:
    """Column names without the types of RecBole's atomic files.

    Example:
        >>> untyped(["user_id:token", "age:float"]), untyped(["a:token", "b"])
        (['user_id', 'age'], ['a:token', 'b'])
    """
    found = [match[1] for name in names if (match := _TYPE.fullmatch(name))]
    return found if len(found) == len(names) else list(names)


def split(line: str, delimiter: str) -> list[str]:
    """Fields of one line."""
    return next(csv.reader([line.replace("\0", "")], delimiter=delimiter), [])


def _holds(fields: Sequence[str], wanted: Collection[str]) -> bool:
    return any(name in wanted or name.strip() in wanted for name in untyped(fields))


def _is_even(lines: Sequence[str], delimiter: str) -> bool:
    counts = [len(split(line, delimiter)) for line in lines]
    return counts[0] > 1 and counts.count(counts[0]) >= _SHARE * len(counts)
