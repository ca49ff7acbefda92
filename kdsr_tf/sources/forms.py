"""The form of a file: how its bytes become rows.

The ending of the name tells the kind, the content the rest; what the user tells goes first.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Any

from kdsr_tf.errors import InputError
from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources import csv_files, json_records, parquet_files, user_lines
from kdsr_tf.sources.batches import Names, check_columns, renamed
from kdsr_tf.sources.csv_files import Quoting, find_quoting
from kdsr_tf.sources.parquet_files import Part
from kdsr_tf.sources.streams import COMPRESSIONS, opened, unpacked_name
from kdsr_tf.sources.table_rows import STRAY_MARK, Dialect, TableRows

PARQUET, TABLE, LINES, ARRAY, USERS = "parquet", "table", "JSON lines", "JSON array", "user lines"

TABLES = {"csv": ",", "tsv": "\t", "txt": None, "dat": None, "data": None, "inter": None} | {
    "item": None
}
"""Delimited text by the ending of a file's name; None where it tells no delimiter."""

ENDINGS = ("parquet", "csv", "tsv", "jsonl", "json", "ndjson", *list(TABLES)[2:])
ROWS, SEQUENCES = "rows", "sequences"

_HEAD_BYTES = 1 << 18
_HEAD_LINES = 100
_ALWAYS_QUOTED = (",", ";")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """What the user says about a text file.

    Args:
        encoding: Encoding that is not UTF-8.
        delimiter: Character between columns.
        has_header: Whether the first line holds the names of columns.
        layout: `ROWS`, `SEQUENCES`, or None for what the file looks like.
        positions: Names of columns by their position from 1, if there is no header.
        names: Own names of columns, by which a header is recognised.
    """

    encoding: str | None = None
    delimiter: str | None = None
    has_header: bool = True
    layout: str | None = None
    positions: tuple[tuple[int, str], ...] = ()
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How a file is read.

    Args:
        kind: `PARQUET`, `TABLE`, `LINES`, `ARRAY` or `USERS`.
        columns: Names of its columns; of JSON, those of the first hundred records.
        encoding: Encoding of a text that is not UTF-8.
        dialect: How a table is written.
        header_lines: Lines of its header; 0 without one.
        delimiter: Character between items of `USERS`; None takes what a line has.
        parts: Files of Parquet.
        stray_row: Row, from 0, with a quotation mark that does not fit, of a table that has
            fields in quotation marks and is read as unquoted for that row.
    """

    kind: str
    columns: tuple[str, ...]
    encoding: str | None = None
    dialect: Dialect | None = None
    header_lines: int = 0
    delimiter: str | None = None
    parts: tuple[Part, ...] = ()
    stray_row: int | None = None


def kind_of(path: str) -> str:
    """Ending of a file's name without that of its compression: one of `ENDINGS`."""
    name = unpacked_name(path)
    kind = posixpath.splitext(name)[1][1:].lower()
    if kind not in ENDINGS:
        raise InputError(
            f"{path}: its ending does not say how to read it. Expected "
            f"{', '.join('.' + known for known in ENDINGS)}, packed or not "
            f"({', '.join(COMPRESSIONS)})."
        )
    return kind


def is_text(path: str) -> bool:
    """Whether a file is text, not Parquet; the ending of its name tells."""
    return not parquet_files.is_folder(path) and kind_of(path) != PARQUET


def find_form(path: str, told: Told = Told(), *, of_interactions: bool = False) -> Form:
    """The form of a file, or of a folder of Parquet files, from its name and its beginning.

    A file `of_interactions` may have one line per user. A form that cannot be told is an error.
    """
    if parquet_files.is_folder(path):
        parts = parquet_files.parts_of(path)
        return _parquet(parts)
    kind = kind_of(path)
    if kind == "parquet":
        return _parquet([Part(path)])
    is_json = kind not in TABLES
    form = _json(path, told) if is_json else _text(path, told, TABLES[kind], of_interactions)
    for name in form.columns:
        if form.columns.count(name) > 1:
            raise InputError(f"{path} has two columns {name!r}. Rename one of them.")
    return form


def check_columns_of(
    path: str, form: Form, names: Names, required: Sequence[str]
) -> tuple[str, ...]:
    """The column names after renaming, as `check_columns` gives them; a header is not assumed."""
    columns = renamed(form.columns, names)
    missing = [name for name in required if name not in columns]
    if form.kind == TABLE and form.columns and missing:
        found = ", ".join(form.columns)
        if not form.header_lines:
            raise InputError(
                f"{path}: which of its {len(columns)} columns is {missing[0]} is not known. Name "
                f"it by its position, from 1: --column {missing[0]}=1."
            )
        if csv_files.looks_like_data(form.columns):
            raise InputError(
                f"{path} lacks the column {missing[0]}, and its first line looks like data: "
                f"{found}. Without a header, name columns by their position: --no-header "
                f"--column {missing[0]}=1 to `kdsr data import`. A line with a user and all items "
                "of the user: --layout sequences."
            )
    return check_columns(path, form.columns, names, required)


def _parquet(parts: list[Part]) -> Form:
    columns = tuple(parquet_files.column_names(parts))
    return Form(kind=PARQUET, columns=columns, parts=tuple(parts))


def _json(path: str, told: Told) -> Form:
    with opened(path, told.encoding) as file:
        start = _head(file).removeprefix(BOM_UTF8).lstrip()
    first = start.splitlines()[0] if start else b""
    over_lines = first.strip() == b"{" or first.lstrip().startswith(b"[")
    kind = ARRAY if over_lines else LINES
    with opened(path, told.encoding) as file:
        records = json_records.read(path, file, kind == ARRAY)
        columns = tuple(json_records.column_names(path, records))
    return Form(kind=kind, columns=columns, encoding=told.encoding)


def _text(path: str, told: Told, own: str | None, of_interactions: bool) -> Form:
    wanted = {USER_ID, ITEM_ID, *told.names}
    with opened(path, told.encoding) as file:
        head = _head(file)
    lines = _lines(head)
    if not lines:
        return Form(kind=TABLE, columns=())
    layout = told.layout
    if layout is None and of_interactions and told.delimiter is None:
        layout = SEQUENCES if csv_files.user_lines_hint(lines, wanted) else ROWS
    if layout == SEQUENCES and of_interactions:
        header = user_lines.split(lines[0].encode(), told.delimiter)[0].decode() in wanted
        return Form(
            kind=USERS,
            columns=user_lines.COLUMNS,
            encoding=told.encoding,
            delimiter=told.delimiter,
            header_lines=int(header),
        )
    delimiter = told.delimiter
    if delimiter is None or delimiter not in lines[0]:  # one delimiter is told for two files
        delimiter = csv_files.delimiter_of(path, lines, own, wanted)
    return _table(path, told, delimiter)


def _table(path: str, told: Told, delimiter: str) -> Form:
    fields, num_lines = _first(path, told, delimiter)
    names = _decoded(path, fields, told)
    plain = csv_files.untyped(names)
    has_header = told.has_header or any(name in (USER_ID, ITEM_ID) for name in plain)
    if has_header:
        columns = plain
    else:
        given = dict(told.positions)
        columns = [given.get(k, f"column_{k}") for k in range(1, len(names) + 1)]
    quoting = Quoting(plain == names and delimiter in _ALWAYS_QUOTED)
    if plain == names and not quoting.is_quoted:
        with opened(path, told.encoding) as file:
            quoting = find_quoting(path, file, delimiter, len(columns))
    stray = quoting.stray_row
    return Form(
        kind=TABLE,
        columns=tuple(columns),
        encoding=told.encoding,
        dialect=Dialect(delimiter, quoting.is_quoted),
        header_lines=num_lines if has_header else 0,
        stray_row=None if stray is None else max(stray - has_header, 0),
    )


def _first(path: str, told: Told, delimiter: str) -> tuple[list[bytes], int]:
    """Fields of the first row, and the lines that it takes."""
    for quoted in (True, False) if delimiter not in _ALWAYS_QUOTED else (True,):
        with opened(path, told.encoding) as file:
            rows = TableRows(path, file, Dialect(delimiter, quoted))
            if (fields := rows.first()) is not None:
                return fields, rows.first_lines
    raise InputError(f"The first line of {path} has a {STRAY_MARK}.")


def _decoded(path: str, fields: Sequence[bytes], told: Told) -> list[str]:
    """Names of columns without blanks around them, unless a name was told with blanks."""
    if not told.has_header:
        return [field.decode("utf-8", "replace") for field in fields]
    try:
        names = [field.decode() for field in fields]
        return [name if name in told.names else name.strip() for name in names]
    except UnicodeDecodeError:
        raise InputError(
            f"The header of {path} is not UTF-8. Save the file as UTF-8, or name its encoding: "
            "--encoding to `kdsr data import`."
        ) from None


def _head(file: Any) -> bytes:
    """The beginning of a file; a stream may give less than it is asked for."""
    head = b""
    while len(head) < _HEAD_BYTES and (block := file.read(_HEAD_BYTES - len(head))):
        head += block
    return head


def _lines(head: bytes) -> list[str]:
    """The first lines that are not blank; the last one only if it is whole."""
    text = head.removeprefix(BOM_UTF8).decode("utf-8", "replace")
    lines = re.split(r"[\r\n]+", text)
    if len(head) >= _HEAD_BYTES and len(lines) > 1:
        lines.pop()
    return [line for line in lines if line.strip()][:_HEAD_LINES]
