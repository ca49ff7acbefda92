"""Whole numbers in any type and notation: 12, 12.0, DECIMAL 12.00 and 1.2e1 are one number.

A floating-point number stands for the whole number that it equals, below the size from
which on neighbouring whole numbers share one floating-point number. Above, it may be
another number than was meant, so it is refused.
"""

from __future__ import annotations

import decimal
import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

LOST_DIGITS = "is a floating-point number that may have lost digits"

EXACT_BELOW = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
"""Arrow's floating-point types: below this size each holds every whole number."""

_LARGEST_EXACT = EXACT_BELOW["double"]


class LostDigits(ValueError):
    """A floating-point number that several whole numbers share."""


def of_number(value: Any) -> int | None:
    """The whole number that a number equals, or None if it equals none.

    Args:
        value: Any value; a bool is not taken for a number.

    Raises:
        LostDigits: for a float that several whole numbers share.

    Example:
        >>> of_number(12.0), of_number(decimal.Decimal("12.00")), of_number(12.5)
        (12, 12, None)
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


def of_notation(text: str) -> int | None:
    """The whole number of a text in floating-point notation, or None if it has a fraction.

    Args:
        text: What `decimal.Decimal` takes: digits, perhaps a point and an exponent.

    Raises:
        LostDigits: if a float of that size may have lost digits.

    Example:
        >>> of_notation("12.0"), of_notation("1.2e1"), of_notation("12.5")
        (12, 12, None)
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


def of_floats(array: pa.Array) -> Floats:
    """The whole numbers of a column whose type is one of `EXACT_BELOW`, in one step."""
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    whole = np.isfinite(values) & (np.floor(values) == values)
    lost_digits = whole & (np.abs(values) >= EXACT_BELOW[str(array.type)])
    numbers = np.where(whole & ~lost_digits, values, 0).astype(np.int64)
    return Floats(numbers, missing, ~whole & ~missing, lost_digits, whole & (values >= 2.0**63))


def is_whole(kind: pa.DataType) -> bool:
    """Whether a column can hold nothing but whole numbers."""
    return pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
