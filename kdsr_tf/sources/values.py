"""Single values of a column as Python has them, and whole numbers in any type and notation.

12, 12.0, DECIMAL 12.00 and 1.2e1 are one number. A floating-point number stands for the whole
number that it equals, below the size from which on neighbouring whole numbers share one. Above,
it may be another number than was meant, so it is refused.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

Column: TypeAlias = pa.Array | list[Any]
"""Values of a column: an Arrow array (Parquet, CSV as bytes) or a list (JSON lines)."""

Reasons = dict[int, str]
"""Why a row cannot be used, by its position in the batch; the first reason stays."""

LOST_DIGITS = "is a floating-point number that may have lost digits"

EXACT_BELOW = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
"""Arrow's floating-point types: below this size each holds every whole number."""

_LARGEST_EXACT = EXACT_BELOW["double"]


def reject(reasons: Reasons, mask: np.ndarray | pa.Array, reason: str) -> None:
    """Give the rows of a mask, bool `[n]`, a reason; null counts as False."""
    if isinstance(mask, pa.Array):
        mask = mask.fill_null(False).to_numpy(zero_copy_only=False)
    for position in np.flatnonzero(mask).tolist():
        reasons.setdefault(position, reason)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, blank text or an empty list."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, (list, tuple)) and not value


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


def value_at(column: Column, position: int) -> Any:
    """One value of a column."""
    value = column[position]
    return plain_value(value) if isinstance(value, pa.Scalar) else value


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, or the bytes of texts."""
    return str(kind) in ("string", "large_string", "string_view", "binary", "large_binary")


def as_array(column: Column) -> pa.Array | None:
    """A column as an Arrow array without dictionary; None for a list of several types.

    Floats of a list count as several types: an integer among them would become one.
    """
    if isinstance(column, pa.Array):
        is_encoded = pa.types.is_dictionary(column.type)
        return column.dictionary_decode() if is_encoded else column
    try:
        array = pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None
    return None if pa.types.is_floating(array.type) else array


def each(
    column: Column, name: str, convert: Callable[[Any], Any], reasons: Reasons, default: Any
) -> list[Any]:
    """Convert values one by one; rows that fail get `default`, and a reason in `reasons`.

    `convert` raises `ValueError` with the reason.
    """
    converted = []
    for position in range(len(column)):
        result = default
        try:
            value = value_at(column, position)
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


class LostDigits(ValueError):
    """A floating-point number that several whole numbers share."""


def whole_of_number(value: Any) -> int | None:
    """The whole number that a number equals, or None if it equals none; a bool is no number.

    A float that several whole numbers share is `LostDigits`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        return None
    if isinstance(value, int):
        return value
    if not math.isfinite(value) or value != int(value):
        return None
    if isinstance(value, float) and abs(value) >= _LARGEST_EXACT:
        raise LostDigits
    return int(value)


def whole_of_notation(text: str) -> int | None:
    """The whole number of a text in floating-point notation, or None if it has a fraction.

    A float of a size that may have lost digits is `LostDigits`.
    """
    number = decimal.Decimal(text)
    # First the cheap test: 1e999 has as many digits as it says.
    if number and number.adjusted() >= len(str(_LARGEST_EXACT)):
        raise LostDigits
    if number != number.to_integral_value():
        return None
    if abs(number) >= _LARGEST_EXACT:
        raise LostDigits
    return int(number)


class Floats(NamedTuple):
    """A floating-point column as whole numbers.

    Args:
        numbers: int64 `[n]`; 0 for a value that is not a whole number.
        missing: Whether a value is null or NaN, bool `[n]`.
        fractional: Whether it is no whole number, bool `[n]`.
        lost_digits: Whether several whole numbers share it, bool `[n]`.
        too_large: Whether it is above every 64-bit number, bool `[n]`.
    """

    numbers: np.ndarray
    missing: np.ndarray
    fractional: np.ndarray
    lost_digits: np.ndarray
    too_large: np.ndarray


def whole_of_floats(array: pa.Array) -> Floats:
    """The whole numbers of a column whose type is one of `EXACT_BELOW`, in one step."""
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    whole = np.isfinite(values) & (np.floor(values) == values)
    lost_digits = whole & (np.abs(values) >= EXACT_BELOW[str(array.type)])
    numbers = np.where(whole & ~lost_digits, values, 0).astype(np.int64)
    return Floats(numbers, missing, ~whole & ~missing, lost_digits, whole & (values >= 2.0**63))


def is_whole_type(kind: pa.DataType) -> bool:
    """Whether a column can hold nothing but whole numbers."""
    return pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
