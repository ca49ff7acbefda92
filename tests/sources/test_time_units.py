"""What numbers of a timestamp column mean: told or guessed, one check for both."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf.errors import InputError
from kdsr_tf.sources.time_units import (
    CALENDAR,
    MOMENT,
    TimesFound,
    guess_unit,
    settle_unit,
    to_microseconds,
    written_dates,
)

YEAR_END = 1_580_515_199_000_000
"""2020-01-31 23:59:59 UTC."""


def found(numbers, moments=()):
    times = TimesFound()
    # Two batches: the ends of the whole are not those of a batch.
    for part in (slice(0, 1), slice(1, None)):
        values = np.array([*numbers[part], *moments[part]], np.int64)
        are_moments = np.arange(len(values)) >= len(numbers[part])
        times.add(values, are_moments, lambda at, part=part: f"row {at + 1 + (part.start or 0)}")
    return times


@pytest.mark.parametrize(
    ("numbers", "told", "expected"),
    [
        ([978300760, 978300761], None, "seconds"),
        ([9_223_372_036], None, "seconds"),
        ([978300760_123], None, "milliseconds"),
        ([978300760_123_456], None, "microseconds"),
        ([978300760_123_456_789], None, "nanoseconds"),
        ([0, 7], None, None),
        ([20200131, 20191231], None, CALENDAR),
        ([20200131, 20191232], None, None),
        ([2020013123], None, CALENDAR),
        ([202001312359], None, CALENDAR),
        ([202001312359], "milliseconds", "milliseconds"),
        ([202001312359, 202001312360], None, "milliseconds"),
        ([20200131235959], None, CALENDAR),
        ([20200131235959123], None, CALENDAR),
        ([20200131235959], CALENDAR, CALENDAR),
        ([978300760], "position", None),
        ([0, 978300760], "seconds", "seconds"),
        ([0, 5_000_000], "seconds", "seconds"),
        ([], None, MOMENT),
    ],
)
def test_units_are_told_or_guessed(numbers, told, expected):
    times = found(numbers, moments=[] if numbers else [5])
    assert settle_unit(times, told) == expected


@pytest.mark.parametrize(
    ("numbers", "told", "parts"),
    [
        ([0, 978300760], None, ["0 (row 1)", "978,300,760 (row 2)", "positions and seconds"]),
        ([978300760, 978300760_123], None, ["seconds and milliseconds"]),
        ([978300760_123, 978300760, 978300760_123_456], None, ["seconds and microseconds"]),
        ([20200131235960], None, ["20,200,131,235,960", "times of no unit"]),
        ([20201331235959], "milliseconds", ["20,201,331,235,959", "after the year 2262"]),
        ([20200131235959], "milliseconds", ["20,200,131,235,959", "after the year 2262"]),
        ([20200131235959], "microseconds", ["written dates, not microseconds", "before 1973"]),
        ([20200131], "seconds", ["written dates, not seconds", "--timestamp-unit=calendar"]),
        (
            [978300760_123],
            "seconds",
            ["look like milliseconds, not seconds", "after the year 2262"],
        ),
        ([978300760], "nanoseconds", ["look like seconds, not nanoseconds", "before 1973"]),
        ([978300760], "milliseconds", ["look like seconds, not milliseconds", "before 1973"]),
        ([978300760, 978300760_123], "milliseconds", ["seconds and milliseconds, not millisec"]),
        ([2**63 - 1], "seconds", ["after the year 2262"]),
        ([20200131, 20200132], CALENDAR, ["no date of 1970 to 2262", "20200132 (row 2)"]),
        ([99990101], CALENDAR, ["no date of 1970 to 2262", "99990101 (row 1)"]),
    ],
)
def test_what_cannot_be_is_refused_with_the_values(numbers, told, parts):
    with pytest.raises(InputError) as caught:
        settle_unit(found(numbers), told)
    for part in parts:
        assert part in str(caught.value)


def test_fractions_are_of_the_unit():
    values, millionths = np.array([1_600_000_000, 7]), np.array([250_000, 999_999])
    expected = {
        "seconds": [1_600_000_000_250_000, 7_999_999],
        "milliseconds": [1_600_000_000_250, 8_000],
        "microseconds": [1_600_000_000, 8],
        "nanoseconds": [1_600_000, 0],
    }
    for unit, times in expected.items():
        assert to_microseconds(values, unit, millionths=millionths).tolist() == times
    times = TimesFound()
    dates = np.array([2040013123, 2040013122])
    times.add(dates, np.zeros(2, bool), lambda at: f"row {at + 1}", np.array([0, 5]))
    assert settle_unit(times, None) == settle_unit(times, "seconds") == "seconds"
    for told in (CALENDAR, "position"):
        with pytest.raises(InputError, match=rf"{told} has no fraction.* 2040013122 .*\(row 2\)"):
            settle_unit(times, told)


def test_dates_beside_numbers_need_a_word():
    mixed = found([1_600_000_000], [YEAR_END])
    for told in (None, "position"):
        with pytest.raises(InputError, match=r"1,600,000,000 \(row 1\), and others .* as row 2"):
            settle_unit(mixed, told)
    assert settle_unit(mixed, "seconds") == "seconds"
    assert mixed.ends("seconds") == (YEAR_END, 1_600_000_000_000_000)


def test_written_dates_are_those_of_the_calendar():
    days = [20200131, 2020013123, 202001312359, 20200131235959, 20200131235959123, 20200229]
    start = YEAR_END - 86_399_000_000
    expected = [
        start,
        start + 82_800_000_000,
        start + 86_340_000_000,
        YEAR_END,
        YEAR_END + 123_000,
        start + 29 * 86_400_000_000,
    ]
    assert written_dates(np.array(days)).tolist() == expected
    wrong = [20210229, 19691231, 20200100, 20201301, 2020013124, 20200131236000, 22620412, 7, 0]
    assert written_dates(np.array(wrong)).tolist() == [-1] * len(wrong)
    assert written_dates(np.array([2**63 - 1, 10**17])).tolist() == [-1, -1]


def test_moments_stay_and_numbers_become_microseconds():
    values, are_moments = np.array([5, 7]), np.array([True, False])
    assert to_microseconds(values, "seconds", are_moments).tolist() == [5, 7_000_000]
    assert to_microseconds(values, None, are_moments).tolist() == [5, 7]
    dates = np.array([YEAR_END, 20200131235959])
    assert to_microseconds(dates, CALENDAR, are_moments).tolist() == [YEAR_END, YEAR_END]
    assert to_microseconds(np.array([1_999]), "nanoseconds").tolist() == [1]


@pytest.mark.parametrize("time", [9_223_372_037, 10**11 - 1, 10**13, 10**16])
def test_numbers_between_the_units_are_of_none(time):
    assert guess_unit(time) == "times of no unit"
