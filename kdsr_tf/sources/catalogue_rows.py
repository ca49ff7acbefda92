"""Rows of the catalogue."""

from __future__ import annotations

import decimal
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources.batches import Piece, Rejected, shortened
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.ids import read_ids
from kdsr_tf.sources.values import (
    EXACT_BELOW,
    Reasons,
    is_missing,
    plain_value,
    whole_of_number,
)

_DECODED = (bytes, decimal.Decimal, list)
_LONGEST_VALUE = 2_000
_LONGEST_ROW = 8_000
"""Characters of a dead letter."""

ID_TWICE = f"{ITEM_ID} occurs twice"
"""Why a later row of the same item is rejected."""


class CatalogueRow(NamedTuple):
    """One row of the catalogue.

    Args:
        item_id: As `ids` reads it; never empty. So it stands in `values`, too.
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

    A row is rejected if it cannot be read, is not UTF-8, or has no id that `ids.read_ids` takes. A
    repeated id is *not* rejected here: only a reader of all pieces can tell. `image_column` may
    hold the bytes of pictures, which are no text.
    """
    for batch in read_batches(piece):
        yield from batch.rejected
        columns = {
            name: _listed(column) if isinstance(column, pa.Array) else column
            for name, column in batch.columns.items()
        }
        reasons: Reasons = {}
        ids = read_ids(batch.columns.get(ITEM_ID, [None] * len(batch.rows)), ITEM_ID, reasons)
        found = zip(batch.rows.tolist(), ids.to_pylist(), strict=True)
        for position, (row, item_id) in enumerate(found):
            values = {name: column[position] for name, column in columns.items()}
            yield _checked(piece, row, values, image_column, item_id, reasons.get(position))


def as_text(value: Any) -> str:
    """A catalogue value as text: lists are joined by `", "`, nothing is `""`, 1999.0 is "1999"."""
    if is_missing(value):
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(text for text in map(as_text, value) if text)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_BELOW["double"]:
        return str(int(value))
    return str(value)


def row_as_json(values: dict[str, Any]) -> str:
    """A row for a dead letter: long texts and lists cut, bytes made readable.

    A row that is still long is cut as a whole, and then is a JSON text.
    """
    row = _json({name: _shortened(value) for name, value in values.items()})
    return row if len(row) <= _LONGEST_ROW else _json(shortened(row))


def _checked(
    piece: Piece,
    row: int,
    values: dict[str, Any],
    image_column: str,
    item_id: str,
    reason: str | None,
) -> CatalogueRow | Rejected:
    where = piece.where(row)
    for name, value in values.items():
        try:
            values[name] = _decoded(value, name == image_column)
        except UnicodeDecodeError:
            return Rejected(f"{name} is not UTF-8", where, row_as_json(values))
    if reason is not None:
        return Rejected(reason, where, row_as_json(values))
    present = {name: value for name, value in values.items() if not is_missing(value)}
    return CatalogueRow(item_id, row, where, {**present, ITEM_ID: item_id})


def _decoded(value: Any, may_be_bytes: bool) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            if may_be_bytes:
                return value
            raise
    if isinstance(value, decimal.Decimal):
        number = whole_of_number(value)
        return float(value) if number is None else number
    if isinstance(value, list) and any(isinstance(part, _DECODED) for part in value):
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
