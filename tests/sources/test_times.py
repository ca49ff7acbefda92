"""Numbers and moments of a timestamp column, and what is refused by name."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from kdsr_tf.sources import times
from kdsr_tf.sources.times import read_times

MOMENT = 1_569_888_000_000_000
"""2019-10-01 00:00:00 UTC."""


def one(value, kind=None):
    """The timestamp of one value and whether it is a moment, or why it is none."""
    column = value if isinstance(value, pa.Array | list) else pa.array([value], kind)
    reasons = {}
    found = read_times(column, reasons)
    return reasons.get(0, (found.values[0], found.are_moments[0]))


@pytest.mark.parametrize(
    "text",
    [
        "2019-10-01",
        "2019-10-01 00:00:00",
        "2019-10-01T00:00:00.000000",
        "2019-10-01T00:00:00.000000000Z",
        "2019-10-01 00:00:00 UTC",
        "2019-10-01 00:00:00.000 UTC",
        "2019-10-01 00:00:00UTC",
        "2019-10-01 UTC",
        "2019-10-01 00:00:00 utc",
        "2019-10-01 00:00:00 GMT",
        "2019-10-01 00:00:00 Z",
        "2019-10-01T02:00:00+02:00",
        "2019-10-01T02:00:00+0200",
        "2019-10-01 02:00:00 +0200",
        "2019-10-01 02:00:00 +02",
        "2019-10-01 02:00:00 UTC+2",
        "2019-10-01 02:00:00 GMT+02:00",
        "2019-09-30 18:30:00 UTC-0530",
        "2019-10-01 02:00:00 Europe/Berlin",
        "2019-10-01T02:00[Europe/Berlin]",
        "2019-10-01T02:00+02:00[Europe/Berlin]",
        "2019-10-01T00:00:00Z[UTC]",
        "2019-09-30 20:00:00 EST5EDT",
        "2019-09-30 20:00:00 America/New_York",
        "20191001T000000Z",
        "  2019-10-01 00:00:00 UTC ",
    ],
)
def test_a_moment_is_utc_unless_it_says_otherwise(text):
    assert one(text) == (MOMENT, True)
    assert one([text]) == (MOMENT, True)
    assert one(pa.array([text.encode()])) == (MOMENT, True)


def test_fractions_and_hours_that_a_zone_has_twice():
    assert one("2019-10-01 00:00:00.123456789 UTC") == (MOMENT + 123_456, True)
    assert one("2019-10-01 00:00:00.5 Europe/London") == (MOMENT - 3_600_000_000 + 500_000, True)
    first = one("2019-10-27 02:30:00 Europe/Berlin")
    assert first == one("2019-10-27 00:30:00 UTC")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2019-10-01 00:00:00 PST", times.NO_ZONE),
        ("2019-10-01 00:00:00 PM", times.NO_ZONE),
        ("2019-10-01 00:00:00 Europe/Atlantis", times.NO_ZONE),
        ("2019-10-01 00:00:00 Europe", times.NO_ZONE),
        ("2019-10-01 00:00:00[../../etc/passwd]", times.NO_ZONE),
        ("2019-10-01 00:00:00 UTC+99", times.NO_ZONE),
        ("01.10.2019", times.NO_TIME),
        ("10/01/2019", times.NO_TIME),
        ("2019-13-01 UTC", times.NO_TIME),
        ("soon", times.NO_TIME),
        ("UTC", times.NO_TIME),
        ("1_600_000_000", times.NO_TIME),
        ("1,600,000,000", times.NO_TIME),
        ("١٦٠٠", times.NO_TIME),
        ("0x10", times.NO_TIME),
        ("12.5", times.NO_TIME),
        ("99999999.5", times.NO_TIME),
        ("-1600000000.25", times.NO_TIME),
        ("123456789012345678901234567890.5", times.TOO_LARGE),
        ("nan", times.NO_TIME),
        ("-1", times.NEGATIVE),
        ("-1.0", times.NEGATIVE),
        ("1969-12-31T23:59:59 UTC", times.TOO_EARLY),
        ("1970-01-01T00:30:00 Europe/Berlin", times.TOO_EARLY),
        ("2262-04-12", times.TOO_LATE),
        ("9999-12-31 23:59:59 America/New_York", times.TOO_LATE),
        ("9" * 20, times.TOO_LARGE),
        ("9" * 5000, times.TOO_LARGE),
        ("1e30", times.TOO_LARGE),
        ("1.6e18", "timestamp is a floating-point number that may have lost digits"),
        ("", "timestamp is missing"),
    ],
)
def test_what_is_no_time_is_refused_by_name(text, reason):
    assert one(text) == one([text]) == reason


@pytest.mark.parametrize(
    "value",
    [
        "1600000000",
        " 1600000000\r",
        "+1600000000",
        "01600000000",
        "1600000000.0",
        "1600000000.",
        "1.6e9",
        "1.6E+09",
        "16e8",
        1_600_000_000,
        1.6e9,
    ],
)
def test_a_number_is_one_in_every_notation(value):
    assert one(value) == one([value]) == (1_600_000_000, False)


@pytest.mark.parametrize(
    "kind",
    ["int32", "int64", "uint32", "uint64", "float64", pa.decimal128(38, 0), pa.decimal128(20, 4)],
    ids=str,
)
def test_a_number_is_one_in_every_type(kind):
    column = pa.array([Decimal(1_600_000_000)], pa.decimal128(38, 0)).cast(kind)
    assert one(column) == one(column.dictionary_encode()) == (1_600_000_000, False)


@pytest.mark.parametrize(
    ("value", "whole", "millionths"),
    [
        ("1600000000.25", 1_600_000_000, 250_000),
        (" 1600000000.123456789 ", 1_600_000_000, 123_457),
        ("1.60000000025e9", 1_600_000_000, 250_000),
        ("1600000000.9999999", 1_600_000_001, 0),
        ("1600000000123.456", 1_600_000_000_123, 456_000),
        (1600000000.123456, 1_600_000_000, 123_456),
        (1600000000.9999999, 1_600_000_001, 0),
        (Decimal("1600000000.123456"), 1_600_000_000, 123_456),
    ],
)
def test_a_time_may_have_a_fraction(value, whole, millionths):
    column = [value] if isinstance(value, str) else pa.array([value])
    for read in (column, [value], pa.array([value, value]).dictionary_encode()):
        reasons = {}
        found = read_times(read, reasons)
        assert not reasons and not found.are_moments.any()
        assert found.values[0] == whole and found.millionths[0] == millionths


def test_floats_with_and_without_fractions():
    reasons = {}
    found = read_times(pa.array([1.6e9, 1.6e9 + 0.5, None, 0.5, float("inf"), 7.0]), reasons)
    assert found.values.tolist() == [1_600_000_000, 1_600_000_000, 0, 0, 0, 7]
    assert found.millionths.tolist() == [0, 500_000, 0, 0, 0, 0]
    assert reasons == {2: "timestamp is missing", 3: times.NO_TIME, 4: times.NO_TIME}


def test_floats_that_are_no_single_whole_number():
    lost = "timestamp is a floating-point number that may have lost digits"
    assert one(1.6e18) == one([1.6e18]) == lost
    assert one(16_777_217.0, pa.float32()) == lost
    assert one(1.5) == one([1.5]) == times.NO_TIME
    assert one(float("nan")) == one([float("nan")]) == "timestamp is missing"
    assert one(1e30) == one([1e30]) == times.TOO_LARGE
    assert one(True) == one([True]) == times.NO_TIME


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.timestamp("s"), MOMENT),
        (pa.timestamp("ms", "UTC"), MOMENT),
        # Arrow keeps UTC: the zone only says how to show it.
        (pa.timestamp("us", "Europe/Berlin"), MOMENT),
        (pa.timestamp("ns", "+02:00"), MOMENT),
        (pa.date32(), MOMENT),
        (pa.date64(), MOMENT),
    ],
    ids=str,
)
def test_moments_of_parquet(kind, expected):
    column = pa.array([datetime.datetime(2019, 10, 1)], pa.timestamp("s")).cast(
        pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind
    )
    if pa.types.is_timestamp(kind):
        column = pa.array(column.cast(pa.int64()).to_pylist(), pa.int64()).cast(kind)
    assert one(column) == one(column.dictionary_encode()) == (expected, True)


def test_moments_and_numbers_of_one_column_stay_apart():
    reasons = {}
    found = read_times(["1971-01-01", 31_536_000, "x", "1.0"], reasons)
    assert found.values.tolist() == [31_536_000_000_000, 31_536_000, 0, 1]
    assert found.are_moments.tolist() == [True, False, False, False]
    assert reasons == {2: times.NO_TIME}
