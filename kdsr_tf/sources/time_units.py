"""What the numbers of a timestamp column mean, told by the user or by their size.

A number is a time of 1973 to 2262 in at most one unit. Below 10^8 it is a mere position:
it only orders the interactions of a user. Numbers that are written dates, such as 20200131
or 20200131235959, are neither times nor positions, although a program that guesses takes them for
milliseconds of the year 2610.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from kdsr_tf.errors import InputError
from kdsr_tf.sources.times import LAST_MICROSECOND, LEAST_TIME

POSITION = "position"
"""Numbers that only order the interactions of a user."""

CALENDAR = "calendar"
"""Dates and times as digits: YYYYMMDD, perhaps followed by hh, hhmm, hhmmss or hhmmssSSS."""

MOMENT = "moment"
"""Dates and times that the file gives as such, with no unit to guess."""

UNITS = {
    "seconds": LEAST_TIME,
    "milliseconds": 10**11,
    "microseconds": 10**14,
    "nanoseconds": 10**17,
}
"""Units of time since 1970 and the smallest number taken for one: a day of 1973."""

CHOICES = (*UNITS, CALENDAR, POSITION)
"""What a user may say of the numbers."""

NO_UNIT = "times of no unit"
"""Numbers that are times of 1973 to 2262 in none of the units."""

_MICROSECONDS: dict[str | None, int] = {
    "seconds": 1_000_000,
    "milliseconds": 1_000,
    "microseconds": 1,
}
_PER_MICROSECOND: dict[str | None, int] = {"nanoseconds": 1_000}
_TO_LONGEST = {8: 10**9, 10: 10**7, 12: 10**5, 14: 10**3, 17: 1}
"""Digits of a written date, and the factor to its longest form, YYYYMMDDhhmmssSSS."""

Place = tuple[int, str]
"""A timestamp and the row that holds it."""


@dataclasses.dataclass
class TimesFound:
    """The timestamps of a source, taken batch by batch.

    Args:
        numbers: The least and the greatest of those that the file gives as numbers.
        moments: The least and the greatest of those that it gives as dates and times.
        no_date: The first number that is no written date.
        with_fraction: The first number that has a fraction.
    """

    numbers: tuple[Place, Place] | None = None
    moments: tuple[Place, Place] | None = None
    no_date: Place | None = None
    with_fraction: Place | None = None

    def add(
        self,
        timestamps: np.ndarray,
        are_moments: np.ndarray,
        where: Callable[[int], str],
        millionths: np.ndarray | None = None,
    ) -> None:
        """Take a batch as `Interactions` has it; `where` names the row at a position of it."""

        def place(position: int) -> Place:
            return int(timestamps[position]), where(position)

        for name, chosen in (("moments", are_moments), ("numbers", ~are_moments)):
            at = np.flatnonzero(chosen)
            if len(at):
                found = timestamps[at]
                ends = place(int(at[found.argmin()])), place(int(at[found.argmax()]))
                least, most = getattr(self, name) or ends
                setattr(self, name, (min(least, ends[0]), max(most, ends[1])))
        if self.no_date is None and not are_moments.all():
            wrong = np.flatnonzero(~are_moments & (written_dates(timestamps) < 0))
            self.no_date = place(int(wrong[0])) if len(wrong) else None
        if self.with_fraction is None and millionths is not None and millionths.any():
            self.with_fraction = place(int(np.flatnonzero(millionths)[0]))

    def ends(self, unit: str | None) -> tuple[int, int]:
        """The least and the greatest: microseconds since 1970, or positions where no unit is."""
        found = []
        for places, of_numbers in ((self.numbers, unit), (self.moments, MOMENT)):
            times = np.array([time for time, _ in places or ()], np.int64)
            found += to_microseconds(times, of_numbers).tolist()
        return min(found), max(found)


def guess_unit(timestamp: int) -> str | None:
    """Name of the unit that a number seems to have; None for a mere position.

    Example:
        >>> guess_unit(978300760), guess_unit(978300760000), guess_unit(7)
        ('seconds', 'milliseconds', None)
        >>> guess_unit(20200131235959)
        'times of no unit'
    """
    fitting = [unit for unit, least in UNITS.items() if timestamp >= least]
    if not fitting:
        return None
    return NO_UNIT if _is_too_late(timestamp, fitting[-1]) else fitting[-1]


def written_dates(timestamps: np.ndarray) -> np.ndarray:
    """Microseconds since 1970 of numbers such as 20200131 or 20200131235959; -1 for others."""
    longest = np.zeros_like(timestamps)
    for digits, factor in _TO_LONGEST.items():
        fits = (timestamps >= 10 ** (digits - 1)) & (timestamps < 10**digits)
        longest[fits] = timestamps[fits] * factor
    date, clock = np.divmod(longest, 10**9)
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    hour, minute, milliseconds = clock // 10**7, clock // 10**5 % 100, clock % 10**5
    valid = (year >= 1970) & (year <= 2262) & (month >= 1) & (month <= 12) & (day >= 1)
    valid &= (hour < 24) & (minute < 60) & (milliseconds < 60_000)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(valid, day - 1, 0)
    valid &= days.astype("datetime64[M]") == months
    minutes = (days.astype(np.int64) * 24 + hour) * 60 + minute
    found = (minutes * 60_000 + milliseconds) * 1_000
    return np.where(valid & (found <= LAST_MICROSECOND), found, -1)


def to_microseconds(
    timestamps: np.ndarray,
    unit: str | None,
    are_moments: np.ndarray | bool = False,
    millionths: np.ndarray | int = 0,
) -> np.ndarray:
    """Microseconds since 1970; positions (no unit) and moments stay as they are.

    `unit` is what `settle_unit` gives, the others are as `Interactions` has them, each `[n]`.
    """
    if unit == CALENDAR:
        found = written_dates(timestamps)
    else:
        found = timestamps // _PER_MICROSECOND.get(unit, 1) * _MICROSECONDS.get(unit, 1)
        found = found + (millionths * _MICROSECONDS.get(unit, 0) + 500_000) // 1_000_000
    return np.where(are_moments, timestamps, found)


def settle_unit(found: TimesFound, told: str | None) -> str | None:
    """The unit of all numbers, told by the user or guessed; one check for both.

    Args:
        found: The timestamps, at least one.
        told: One of `CHOICES`, or None to guess.

    Returns:
        One of `UNITS`, `CALENDAR`, `MOMENT` where there are no numbers, or None for positions.

    Raises:
        InputError: if the numbers seem to have several units or another one than was told, or
            lie outside the years 1970 to 2262. The message shows them and their rows.
    """
    if found.numbers is None:
        return MOMENT
    least, most = (f"{time:,} ({where})" for time, where in found.numbers)
    if found.moments is not None and told in (None, POSITION):
        raise InputError(
            f"Some timestamps are numbers, such as {least}, and others dates and times, such as "
            f"{found.moments[0][1]}. Give all of them in one form, or say what the numbers are: "
            f"--timestamp-unit={'|'.join((*UNITS, CALENDAR))}."
        )
    if found.with_fraction is not None and told in (CALENDAR, POSITION):
        raise InputError(
            f"A timestamp of --timestamp-unit={told} has no fraction. One is between "
            f"{found.with_fraction[0]} and the next whole number ({found.with_fraction[1]})."
        )
    if told == POSITION:
        return None
    if told == CALENDAR and found.no_date is not None:
        raise InputError(
            f"A timestamp is no date of 1970 to 2262 written as YYYYMMDD or YYYYMMDDhhmmss: "
            f"{found.no_date[0]} ({found.no_date[1]})."
        )
    if found.no_date is None and found.with_fraction is None and told in (None, CALENDAR):
        return CALENDAR
    guesses = [guess_unit(time) for time, _ in found.numbers]
    seem = " and ".join(dict.fromkeys(guess or "positions" for guess in guesses))
    run = f"The timestamps run from {least} to {most}, which look like {seem}"
    if told is None:
        if guesses[0] == guesses[1] != NO_UNIT:
            return guesses[0]
        raise InputError(
            f"{run}. Give all of them in one unit, and rows of unknown time none at all; or "
            f"say which one it is: --timestamp-unit={'|'.join(CHOICES)}."
        )
    if _is_too_late(found.numbers[1][0], told):
        raise InputError(f"{run}, not {told}: that would be after the year 2262.")
    if any(guess in UNITS and guess != told for guess in guesses):
        raise InputError(f"{run}, not {told}: that would be before 1973.")
    if found.no_date is None and found.numbers[1][0] < UNITS[told]:
        raise InputError(
            f"The timestamps run from {least} to {most}, which look like written dates, not "
            f"{told}: that would be before 1973. Say --timestamp-unit={CALENDAR}."
        )
    return told


def _is_too_late(timestamp: int, unit: str) -> bool:
    # In Python's numbers: those of NumPy overflow.
    microseconds = timestamp * _MICROSECONDS.get(unit, 1) // _PER_MICROSECOND.get(unit, 1)
    return microseconds > LAST_MICROSECOND
