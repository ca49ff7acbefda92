"""Rows of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources.batches import Piece, Rejected, shortened
from kdsr_tf.sources.files import read_batches

MAX_ID_BYTES = 1_024
"""Longest id, in bytes of UTF-8."""

_LONGEST_VALUE = 2_000
_LONGEST_ROW = 8_000
"""Characters of a dead letter."""

ID_TWICE = f"{ITEM_ID} occurs twice"
"""Why a later row of the same item is rejected."""

ID_TOO_LONG = f"is longer than {MAX_ID_BYTES:,} bytes"


class CatalogueRow(NamedTuple):
    """One row of the catalogue.

    Args:
        item_id: Never empty.
        row: Number in the file, from 0.
        where: File and row, for error messages.
        values: Every column that has a value; CSV gives text only.
    """

    item_id: str
    row: int
    where: str
    values: dict[str, Any]


def read_items(piece: Piece, image_column: str) -> Iterator[CatalogueRow | Rejected]:
    """Rows of a piece of the catalogue, in file order.

    A row is rejected if it cannot be read, is not UTF-8, or has no id or one
    longer than `MAX_ID_BYTES`. A repeated id is *not* rejected here: only a
    reader of all pieces can tell.

    Args:
        piece: What to read.
        image_column: Column that may hold the bytes of pictures, which are no text.
    """
    for batch in read_batches(piece):
        yield from batch.rejected
        columns = {
            name: _listed(column) if isinstance(column, pa.Array) else column
            for name, column in batch.columns.items()
        }
        for position, row in enumerate(batch.rows.tolist()):
            values = {name: column[position] for name, column in columns.items()}
            yield _checked(piece, row, values, image_column)


def as_text(value: Any) -> str:
    """A catalogue value as text: lists are joined by `", "`, nothing is `""`.

    Example:
        >>> as_text(["Comedy", "Drama"])
        'Comedy, Drama'
    """
    if is_missing(value):
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(text for text in map(as_text, value) if text)
    return str(value)


def is_missing(value: Any) -> bool:
    """Whether a catalogue value is None, NaN, blank text or an empty list."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, (list, tuple)) and not value


def row_as_json(values: dict[str, Any]) -> str:
    """A row for a dead letter: long texts and lists cut, bytes made readable.

    A row that is still long is cut as a whole, and then is a JSON text.
    """
    row = _json({name: _shortened(value) for name, value in values.items()})
    return row if len(row) <= _LONGEST_ROW else _json(shortened(row))


def plain_value(scalar: pa.Scalar) -> Any:
    """A value as Python has it; what Python cannot hold stays recognisable.

    Bytes that are not UTF-8 stand for such a text inside a list, and the number in
    the file for a moment beyond Python's dates.
    """
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return b"\xff"
    except (ValueError, OverflowError):
        return getattr(scalar, "value", None)


def _checked(
    piece: Piece, row: int, values: dict[str, Any], image_column: str
) -> CatalogueRow | Rejected:
    where = piece.where(row)
    for name, value in values.items():
        try:
            values[name] = _decoded(value, name == image_column)
        except UnicodeDecodeError:
            return Rejected(f"{name} is not UTF-8", where, row_as_json(values))
    item_id = values.get(ITEM_ID)
    if is_missing(item_id):
        return Rejected(f"{ITEM_ID} is missing", where, row_as_json(values))
    if not isinstance(item_id, (str, int)) or isinstance(item_id, bool):
        return Rejected(f"{ITEM_ID} is neither text nor an integer", where, row_as_json(values))
    if len(str(item_id).encode()) > MAX_ID_BYTES:
        return Rejected(f"{ITEM_ID} {ID_TOO_LONG}", where, row_as_json(values))
    present = {name: value for name, value in values.items() if not is_missing(value)}
    return CatalogueRow(str(item_id), row, where, present)


def _decoded(value: Any, may_be_bytes: bool) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            if may_be_bytes:
                return value
            raise
    if isinstance(value, list) and any(isinstance(part, (bytes, list)) for part in value):
        return [_decoded(part, may_be_bytes) for part in value]
    return value


def _listed(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):  # also what is not UTF-8
        return [plain_value(scalar) for scalar in column]


def _shortened(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple, dict)):
        text = _json(value)
        return value if len(text) <= _LONGEST_VALUE else shortened(text)
    return shortened(value) if isinstance(value, str) else value


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
