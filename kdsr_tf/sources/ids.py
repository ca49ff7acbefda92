"""Ids as text, by one rule for every file: users and items, interactions and catalogue.

- Blanks around a text do not count; otherwise a text is kept letter for letter, such as
  "0012", "+12" or "12E4".
- A whole number is its digits, whatever its type: 12, 12.0 and DECIMAL 12.00 are "12".
- A text in floating-point notation, as programs write numbers ("12.0", "1.2e1", "1e+05"),
  is that number too, if it is whole; "12.5" is a text like any other.
- A floating-point number that may have lost digits is refused: several ids share it.
"""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kdsr_tf.sources import values
from kdsr_tf.sources.values import Column, Reasons, as_array, each, is_text, reject

MAX_ID_BYTES = 1_024
"""Longest id, in bytes of UTF-8."""

NO_ID = "is neither text nor an integer"
ID_TOO_LONG = f"is longer than {MAX_ID_BYTES:,} bytes"

_WITH_ZEROS = r"^(0|-?[1-9]\d{0,14})\.0*$"
"""Floating-point notation without an exponent, below 2^53."""

_NOTATION = r"^[+-]?(?:0|[1-9]\d*)(?:\.\d*(?:[eE][+-]?\d{1,3})?|[eE][+-]\d{2,3})$"
_ROUNDED_FROM = 10**11
"""Spreadsheets show numbers of 12 digits and more as 1.23457E+11."""


def read_ids(column: Column, name: str, reasons: Reasons) -> pa.StringArray:
    """The ids of a column called `name`; why rows cannot be used is added to `reasons`."""
    array = as_array(column)
    if array is not None and str(array.type) in values.EXACT_BELOW:
        ids = _of_floats(array, name, reasons)
    elif array is not None and values.is_whole_type(array.type):
        ids = array.cast(pa.string())
    else:
        ids = _as_text(array)
        if ids is None:
            texts = each(column, name, lambda value: _text_of(value, name), reasons, default="")
            ids = pa.array(texts, pa.string())
        ids = _plain(ids, name, reasons)
    reject(reasons, pc.equal(ids, "").fill_null(True), f"{name} is missing")
    is_long = pc.greater(pc.binary_length(ids), MAX_ID_BYTES)
    reject(reasons, is_long, f"{name} {ID_TOO_LONG}")
    return ids


def _of_floats(array: pa.Array, name: str, reasons: Reasons) -> pa.StringArray:
    found = values.whole_of_floats(array)
    reject(reasons, found.fractional, f"{name} {NO_ID}")
    reject(reasons, found.lost_digits, f"{name} {values.LOST_DIGITS}")
    return pa.array(found.numbers, mask=found.missing).cast(pa.string())


def _as_text(array: pa.Array | None) -> pa.StringArray | None:
    """A column of texts in one step; None where values must be looked at singly."""
    try:
        return array.cast(pa.string()) if array is not None and is_text(array.type) else None
    except pa.ArrowInvalid:  # not all UTF-8
        return None


def _plain(ids: pa.StringArray, name: str, reasons: Reasons) -> pa.StringArray:
    """Texts without blanks around, and numbers in floating-point notation as digits."""
    ids = pc.utf8_trim_whitespace(ids)
    ids = pc.replace_substring_regex(ids, _WITH_ZEROS, r"\1")
    noted = pc.fill_null(pc.match_substring_regex(ids, _NOTATION), False)
    if not pc.any(noted).as_py():
        return ids
    texts = ids.to_pylist()
    for position in pc.indices_nonzero(noted).to_pylist():
        try:
            texts[position] = _digits(texts[position])
        except values.LostDigits:
            reasons.setdefault(position, f"{name} {values.LOST_DIGITS}")
    return pa.array(texts, pa.string())


def _text_of(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    try:
        number = values.whole_of_number(value)
    except values.LostDigits:
        raise ValueError(f"{name} {values.LOST_DIGITS}") from None
    if number is None:
        raise ValueError(f"{name} {NO_ID}")
    return str(number)


def _digits(text: str) -> str:
    """A text in floating-point notation as digits, or unchanged if it is not whole."""
    number = values.whole_of_notation(text)
    if number is None:
        return text
    exponent = decimal.Decimal(text).as_tuple().exponent
    if isinstance(exponent, int) and exponent > 0 and abs(number) >= _ROUNDED_FROM:
        raise values.LostDigits
    return str(number)
