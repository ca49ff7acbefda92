"""What the first lines of a text tell about its delimiter and layout, if they are unmistakable."""

from __future__ import annotations

import collections
import csv
import re
from collections.abc import Collection, Sequence

from kdsr_tf.errors import InputError

_DELIMITERS = (",", ";", "\t", "|")
_SHARE = 0.8
"""Lines that must have as many fields as the first one."""

_NUMBER = re.compile(r"\s*[-+]?\d[\d.,:TZ/ -]*(e[-+]?\d+)?\s*", re.IGNORECASE)
_TYPE = re.compile(r"(.+):(token|token_seq|float|float_seq)")


def delimiter_of(path: str, lines: Sequence[str], own: str | None, wanted: Collection[str]) -> str:
    """Delimiter of delimited text.

    The first line decides if it holds an expected column name. Otherwise it is the one
    that splits the lines into equally many fields.

    Args:
        path: Path of the file, for errors.
        lines: First lines, one at least.
        own: Delimiter that the ending of the name tells, or None.
        wanted: Expected column names.

    Raises:
        InputError: if it cannot be told.
    """
    named = [d for d in (*_DELIMITERS, " ") if _holds(split(lines[0], d), wanted)]
    if own in named or len(named) > len(_DELIMITERS):
        return own or ","
    if len(named) == 1:
        return named[0]
    even = [d for d in _DELIMITERS if _is_even(lines, d)] or [d for d in " " if _is_even(lines, d)]
    if len(even) == 1:
        return even[0]
    if own is None:
        received = "none" if not even else " and ".join(map(repr, even))
        raise InputError(
            f"{path}: the character between its columns cannot be told; {received} would fit. "
            f"First line: {lines[0][:80]!r}. Name it: --delimiter to `kdsr data import`."
        )
    return own


def user_lines_hint(lines: Sequence[str], wanted: Collection[str]) -> bool:
    """Whether the lines can only be users with the items of each.

    They can if no table of interactions, which takes three columns, has such lines: one
    tab and items behind it, or numbers of fields that differ from line to line.
    """
    if len(lines) < 2 or any(_holds(split(lines[0], d), wanted) for d in (*_DELIMITERS, " ")):
        return False
    if all(line.strip().count("\t") == 1 for line in lines):
        items = [re.split(r"[ ,]+", line.strip().partition("\t")[2].strip()) for line in lines]
        return any(len(found) > 1 for found in items)
    for delimiter in "\t ":
        counts = collections.Counter(len(split(line.strip(), delimiter)) for line in lines)
        if min(counts) > 1 and counts.most_common(1)[0][1] < _SHARE * len(lines):
            return True
    return False


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether a first line holds a number or a time, as a header hardly ever does."""
    return any(_NUMBER.fullmatch(name) for name in names)


def untyped(names: Sequence[str]) -> list[str]:
    """Column names without the types of RecBole's atomic files.

    Example:
        >>> untyped(["user_id:token", "age:float"]), untyped(["a:token", "b"])
        (['user_id', 'age'], ['a:token', 'b'])
    """
    found = [match[1] for name in names if (match := _TYPE.fullmatch(name))]
    return found if len(found) == len(names) else list(names)


def split(line: str, delimiter: str) -> list[str]:
    """Fields of one line."""
    return next(csv.reader([line.replace("\0", "")], delimiter=delimiter), [])


def _holds(fields: Sequence[str], wanted: Collection[str]) -> bool:
    return any(name in wanted or name.strip() in wanted for name in untyped(fields))


def _is_even(lines: Sequence[str], delimiter: str) -> bool:
    counts = [len(split(line, delimiter)) for line in lines]
    return counts[0] > 1 and counts.count(counts[0]) >= _SHARE * len(counts)
