"""Timestamps of a column: numbers of any unit, or moments in microseconds since 1970.

Numbers are whole in any type and notation (see `values`). Moments are dates and
times in Arrow's types or ISO 8601, from 1970 to 2262 (where 64-bit nanoseconds end).
They are UTC unless they say otherwise: with an offset, or with the name of a time zone.

A time in seconds may have a fraction, such as 1600000000.25. It is kept apart, because the
whole number tells the unit.
"""

from __future__ import annotations

import datetime
import decimal
import re
import zoneinfo
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdsr_tf.sources import values
from kdsr_tf.sources.values import Column, Reasons, as_array, each, is_text, reject

TIMESTAMP = "timestamp"

NO_TIME = f"{TIMESTAMP} is neither an integer nor an ISO time"
NEGATIVE = f"{TIMESTAMP} is negative"
TOO_EARLY = f"{TIMESTAMP} is earlier than the year 1970"
TOO_LATE = f"{TIMESTAMP} is later than the year 2262"
TOO_LARGE = f"{TIMESTAMP} does not fit into 64 bits"
NO_ZONE = f"{TIMESTAMP} has a time zone that is not known"
FRACTION = f"{TIMESTAMP} has a fraction, which only `kdsr data import` reads"

_INT64_MAX = 2**63 - 1
LAST_MICROSECOND = _INT64_MAX // 1_000
LEAST_TIME = 10**8
"""Smallest number that is taken for a time, not for a position: seconds of 1973."""
_MILLIONTHS = 1_000_000

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DIGITS = r"^-?\d{1,18}$"
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NOTATION = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)
_ZONED = re.compile(r"(.*\d[Zz]?)(?:\s*\[([^][\s]+)\]|\s+([A-Za-z]\S*)|(UTC|GMT))")
_OFFSET = re.compile(r"(?:UTC|GMT|Z)(?:([+-])(\d\d?)(?::?(\d\d))?)?", re.ASCII)


class Times(NamedTuple):
    """Timestamps of a batch.

    Args:
        values: int64 `[n]`, never negative; 0 for a row that cannot be used.
        are_moments: Whether a value is a moment in microseconds, not a number of the file.
        millionths: What a number has beyond `values`, in millionths of its unit, int64 `[n]`.
    """

    values: np.ndarray
    are_moments: np.ndarray
    millionths: np.ndarray


def read_times(column: Column, reasons: Reasons) -> Times:
    """The timestamps of a column; why rows cannot be used is added to `reasons`."""
    array = as_array(column)
    if array is not None and (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        return _whole_times(_moments(array, reasons), are_moments=True)
    if array is not None and str(array.type) in values.EXACT_BELOW:
        found = _of_floats(array, reasons)
    elif array is not None and (numbers := _numbers(array)) is not None:
        found = _whole_times(numbers, are_moments=False)
    else:
        parsed = each(column, TIMESTAMP, _parse, reasons, default=(0, False, 0))
        columns = zip(*parsed, strict=True) if parsed else ((), (), ())
        kinds = (np.int64, bool, np.int64)
        found = Times(*map(np.array, columns, kinds))
    reject(reasons, (found.values < 0) & found.are_moments, TOO_EARLY)
    reject(reasons, found.values < 0, NEGATIVE)
    return found


def _whole_times(values: np.ndarray, are_moments: bool) -> Times:
    return Times(values, np.full(len(values), are_moments), np.zeros(len(values), np.int64))


def _moments(array: pa.Array, reasons: Reasons) -> np.ndarray:
    """Microseconds of a column of dates or times; nothing overflows."""
    unit = getattr(array.type, "unit", "ms")
    if pa.types.is_date32(array.type):
        unit, array = "s", array.cast(pa.timestamp("s"))
    reject(reasons, array.is_null(), f"{TIMESTAMP} is missing")
    raw = pc.fill_null(array.cast(pa.int64()), 0).to_numpy()
    reject(reasons, raw < 0, TOO_EARLY)
    if unit == "ns":
        return np.maximum(raw, 0) // 1_000
    factor = _MICROSECONDS[unit]
    late = raw > LAST_MICROSECOND // factor
    reject(reasons, late, TOO_LATE)
    return np.where(late, 0, np.maximum(raw, 0)) * factor


def _of_floats(array: pa.Array, reasons: Reasons) -> Times:
    """Numbers of a floating-point column in one step."""
    found = values.whole_of_floats(array)
    raw = array.cast(pa.float64()).fill_null(0).to_numpy()
    with_fraction = found.fractional & (raw >= LEAST_TIME) & np.isfinite(raw)
    reject(reasons, found.missing, f"{TIMESTAMP} is missing")
    reject(reasons, found.fractional & ~with_fraction, NO_TIME)
    reject(reasons, found.too_large, TOO_LARGE)
    reject(reasons, found.lost_digits, f"{TIMESTAMP} {values.LOST_DIGITS}")
    # Whole numbers and what is rejected have no fraction here.
    fraction, whole = np.modf(np.where(with_fraction, raw, 0))
    carried, millionths = np.divmod(np.rint(fraction * _MILLIONTHS).astype(np.int64), _MILLIONTHS)
    numbers = found.numbers + whole.astype(np.int64) + carried
    return Times(numbers, np.zeros(len(numbers), bool), millionths)


def _numbers(array: pa.Array) -> np.ndarray | None:
    """Numbers in one step, or None where values must be looked at singly."""
    try:
        if array.null_count:
            return None
        if is_text(array.type):
            array = pc.utf8_trim_whitespace(array.cast(pa.string()))
            if not pc.all(pc.match_substring_regex(array, _DIGITS)).as_py():
                return None
        elif not values.is_whole_type(array.type):
            return None
        return array.cast(pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _parse(value: Any) -> tuple[int, bool, int]:
    """A value, whether it is a moment, and its millionths; -1 stands for every negative one."""
    if isinstance(value, str):
        text = value.strip()
        if not _NOTATION.fullmatch(text):
            return max(_microseconds(text), -1), True, 0
        value = text
    try:
        number = _whole(value)
    except values.LostDigits:
        lost = f"{TIMESTAMP} {values.LOST_DIGITS}"
        raise ValueError(TOO_LARGE if float(value) > _INT64_MAX else lost) from None
    number, millionths = _with_fraction(value) if number is None else (number, 0)
    if number > _INT64_MAX:
        raise ValueError(TOO_LARGE)
    return max(number, -1), False, millionths


def _with_fraction(value: Any) -> tuple[int, int]:
    """The whole number below a value with a fraction, and the fraction in millionths."""
    try:
        number = decimal.Decimal(str(value))
        if number.is_finite() and number >= LEAST_TIME:
            # The precision of a context would round numbers of more digits.
            scaled = number.scaleb(6, decimal.Context(prec=100)).to_integral_value()
            return divmod(int(scaled), _MILLIONTHS)
    except decimal.InvalidOperation:  # not a number
        pass
    raise ValueError(NO_TIME)


def _whole(value: Any) -> int | None:
    if not isinstance(value, str):
        return values.whole_of_number(value)
    if _WHOLE.fullmatch(value):
        # Python refuses to read thousands of digits.
        return int(value) if len(value) < 100 else _INT64_MAX + 1
    return values.whole_of_notation(value)


def _microseconds(text: str) -> int:
    """Microseconds since 1970 of an ISO time, perhaps followed by the name of a time zone.

    Of an hour that a zone has twice, the first is meant.
    """
    moment = _iso(text)
    if moment is None and (zoned := _ZONED.fullmatch(text)):
        time, *names = zoned.groups()
        moment = _iso(time)
        if moment is not None:
            zone = _zone(next(filter(None, names)))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    if moment is None:
        raise ValueError(NO_TIME)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    microseconds = (moment - _EPOCH) // _MICROSECOND
    if microseconds > LAST_MICROSECOND:
        raise ValueError(TOO_LATE)
    return microseconds


def _iso(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None


def _zone(name: str) -> datetime.tzinfo:
    """`UTC`, `GMT+2`, or a name such as `Europe/Berlin`."""
    if offset := _OFFSET.fullmatch(name.upper()):
        sign, hours, minutes = offset.groups(default="0")
        since = datetime.timedelta(hours=int(hours), minutes=int(minutes))
        try:
            return datetime.timezone(-since if sign == "-" else since)
        except ValueError:
            raise ValueError(NO_ZONE) from None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(NO_ZONE) from None
