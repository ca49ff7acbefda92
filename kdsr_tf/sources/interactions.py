"""Validated interactions, a column at a time."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources.batches import Batch, Piece, Rejected
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.items import (
    ID_TOO_LONG,
    MAX_ID_BYTES,
    is_missing,
    plain_value,
    row_as_json,
)

TIMESTAMP = "timestamp"
COLUMNS = [USER_ID, ITEM_ID, TIMESTAMP]

UNKNOWN_ITEM = "item_id is not in the catalogue"
"""Why a valid row is rejected once the catalogue is known."""

_WHOLE = re.compile(r"(?<=\d)\.0*\s*$")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_INT64_MAX = 2**63 - 1
_LAST_MICROSECOND = _INT64_MAX // 1000
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_TOO_LATE = f"{TIMESTAMP} is later than the year 2262"


class Interactions(NamedTuple):
    """Valid rows of a batch.

    Args:
        user_ids: String array `[n]`.
        item_ids: String array `[n]`.
        timestamps: int64 `[n]`, not negative.
        rows: Row numbers in the file, int64 `[n]`.
        rejected: The other rows.
    """

    user_ids: pa.StringArray
    item_ids: pa.StringArray
    timestamps: np.ndarray
    rows: np.ndarray
    rejected: list[Rejected]

    def row(self, position: int) -> dict[str, Any]:
        """One row, for a dead letter."""
        return {
            USER_ID: self.user_ids[position].as_py(),
            ITEM_ID: self.item_ids[position].as_py(),
            TIMESTAMP: int(self.timestamps[position]),
        }


def read_interactions(piece: Piece) -> Iterator[Interactions]:
    """Valid and rejected rows of a piece of the interactions.

    Ids are text or integers. A timestamp is an integer of any unit, kept as it
    is (5.0 is one, too: what a column with gaps becomes), or an ISO time between
    1970 and 2262 (where 64-bit nanoseconds end), which becomes microseconds since
    1970 (UTC unless it says otherwise).
    """
    for batch in read_batches(piece, COLUMNS):
        yield _checked(piece, batch)


def _checked(piece: Piece, batch: Batch) -> Interactions:
    size = len(batch.rows)
    values = [batch.columns.get(name, [None] * size) for name in COLUMNS]
    reasons: dict[int, str] = {}
    user_ids = _ids(values[0], USER_ID, reasons)
    item_ids = _ids(values[1], ITEM_ID, reasons)
    timestamps = _timestamps(values[2], reasons)
    rejected = list(batch.rejected)
    for position in sorted(reasons):
        row = {name: _value(column, position) for name, column in zip(COLUMNS, values, strict=True)}
        where = piece.where(int(batch.rows[position]))
        rejected.append(Rejected(reasons[position], where, row_as_json(row)))
    good = np.ones(size, bool)
    good[list(reasons)] = False
    keep = pa.array(np.flatnonzero(good))
    return Interactions(
        user_ids.take(keep), item_ids.take(keep), timestamps[good], batch.rows[good], rejected
    )


def _ids(column: pa.Array | list[Any], name: str, reasons: dict[int, str]) -> pa.StringArray:
    """Ids as text; the first reason against a row stays in `reasons`."""
    fast = _id_array(column)
    if fast is None:

        def convert(value: Any) -> str:
            if isinstance(value, str):
                return value
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            raise ValueError(f"{name} is neither text nor an integer")

        fast = pa.array(_each(column, name, convert, reasons, default=""), pa.string())
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(fast), ""), True)
    for position in np.flatnonzero(blank.to_numpy(zero_copy_only=False)).tolist():
        reasons.setdefault(position, f"{name} is missing")
    long = pc.fill_null(pc.greater(pc.binary_length(fast), MAX_ID_BYTES), False)
    for position in np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist():
        reasons.setdefault(position, f"{name} {ID_TOO_LONG}")
    return fast


def _id_array(column: pa.Array | list[Any]) -> pa.StringArray | None:
    """The column as text in one step, or None where values must be looked at singly."""
    try:
        array = pa.array(column) if isinstance(column, list) else column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not _is_text(array.type) and not pa.types.is_integer(array.type):
            return None
        return array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _timestamps(column: pa.Array | list[Any], reasons: dict[int, str]) -> np.ndarray:
    array = _moments(column, reasons) if _holds_moments(column) else _time_array(column)
    if array is None:
        array = np.array(_each(column, TIMESTAMP, _parse_time, reasons, default=0), np.int64)
    for position in np.flatnonzero(array < 0).tolist():
        reasons.setdefault(position, f"{TIMESTAMP} is negative")
    return array


def _holds_moments(column: pa.Array | list[Any]) -> bool:
    return isinstance(column, pa.Array) and (
        pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    )


def _moments(column: pa.Array, reasons: dict[int, str]) -> np.ndarray:
    """Microseconds of a column of dates or times; nothing overflows."""
    unit = getattr(column.type, "unit", "ms")
    if pa.types.is_date32(column.type):
        unit, column = "s", column.cast(pa.timestamp("s"))
    raw = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    for position in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
        reasons.setdefault(position, f"{TIMESTAMP} is missing")
    if unit == "ns":
        return raw // 1000
    factor = _MICROSECONDS[unit]
    late = raw > _LAST_MICROSECOND // factor
    for position in np.flatnonzero(late).tolist():
        reasons.setdefault(position, _TOO_LATE)
    return np.where(late, 0, np.maximum(raw, -1)) * factor


def _time_array(column: pa.Array | list[Any]) -> np.ndarray | None:
    """Integers in one step, or None where values must be looked at singly."""
    try:
        array = pa.array(column) if isinstance(column, list) else column
        if array.null_count or not (pa.types.is_integer(array.type) or _is_text(array.type)):
            return None
        if pa.types.is_binary(array.type):
            array = array.cast(pa.string())
        # Arrow takes 0x1f for a number, `int` does not.
        if _is_text(array.type) and pc.any(pc.match_substring_regex(array, "[xX]")).as_py():
            return None
        return array.cast(pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _parse_time(value: Any) -> int:
    problem = ValueError(f"{TIMESTAMP} is neither an integer nor an ISO time")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        try:
            value = int(_WHOLE.sub("", value))
        except ValueError:
            try:
                value = datetime.datetime.fromisoformat(value.strip())
            except ValueError:
                raise problem from None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        value = (value - _EPOCH) // _MICROSECOND
        if value > _LAST_MICROSECOND:
            raise ValueError(_TOO_LATE)
    if not isinstance(value, int) or isinstance(value, bool):
        raise problem
    if value > _INT64_MAX:
        raise ValueError(f"{TIMESTAMP} does not fit into 64 bits")
    return max(value, -1)


def _each(
    column: pa.Array | list[Any],
    name: str,
    convert: Callable[[Any], Any],
    reasons: dict[int, str],
    default: Any,
) -> list[Any]:
    """Convert values one by one; rows that fail get `default` and a reason."""
    converted = []
    for position in range(len(column)):
        result = default
        try:
            value = _value(column, position)
            if isinstance(value, bytes):
                value = value.decode()
            if is_missing(value):
                raise ValueError(f"{name} is missing")
            result = convert(value)
        except UnicodeDecodeError:
            reasons.setdefault(position, f"{name} is not UTF-8")
        except ValueError as error:
            reasons.setdefault(position, str(error))
        converted.append(result)
    return converted


def _value(column: pa.Array | list[Any], position: int) -> Any:
    value = column[position]
    return plain_value(value) if isinstance(value, pa.Scalar) else value


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
