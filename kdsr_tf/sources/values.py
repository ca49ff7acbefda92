"""Single values of a column, as Python has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa

Column: TypeAlias = pa.Array | list[Any]
"""Values of a column: an Arrow array (Parquet, CSV as bytes) or a list (JSON lines)."""

Reasons = dict[int, str]
"""Why a row cannot be used, by its position in the batch; the first reason stays."""


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
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


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
    """Convert values one by one; rows that fail get `default` and a reason.

    Args:
        column: The values.
        name: Column, for the reasons.
        convert: Makes the result; raises `ValueError` with the reason.
        reasons: Added to.
        default: Result of a row that fails.
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
