"""One JSON object per line, from files that may hold anything."""

from __future__ import annotations

import io
import itertools
import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kdsr_tf.errors import InputError

LONGEST_LINE_BYTES = 16 << 20
"""Lines above it are not read: one without an end would fill the memory."""

DEEPEST = 32
"""Levels of lists and objects; far deeper ones exhaust the stack of code that copies them."""

NOT_JSON = "not valid JSON"
TOO_DEEP = f"nested deeper than {DEEPEST} levels"
"""Why a line has no values."""

_HEAD_LINES = 100


class Objects(NamedTuple):
    """Records in a row that were parsed together.

    Args:
        values: The objects.
        size: Their length as JSON.
    """

    values: list[dict[str, Any]]
    size: int


def read(file: Any) -> Iterator[bytes | None]:
    """Lines of a binary file, without a byte order mark; None for one that is too long."""
    reader, mark = io.BufferedReader(file, 1 << 20), BOM_UTF8
    while line := reader.readline(LONGEST_LINE_BYTES + 1):
        if len(line) <= LONGEST_LINE_BYTES:
            yield line.removeprefix(mark)
        else:
            while line and not line.endswith(b"\n"):
                line = reader.readline(LONGEST_LINE_BYTES)
            yield None
        mark = b""


def parse(line: bytes | None) -> tuple[dict[str, Any] | None, str]:
    """A line of `read` as an object, or None and the reason why it is not one."""
    if line is None:
        return None, f"longer than {LONGEST_LINE_BYTES:,} bytes"
    try:
        # Of bytes `json` would guess the encoding, and let halves of surrogate pairs pass.
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, NOT_JSON
    if line.count(b"[") + line.count(b"{") > DEEPEST and is_deep(values):
        return None, TOO_DEEP
    if b"\\ud" in line or b"\\uD" in line:
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return None, "holds half of a surrogate pair"
    return (values, "") if isinstance(values, dict) else (None, "not a JSON object")


def column_names(path: str, records: Iterable[bytes | Objects | None]) -> list[str]:
    """Names in the first hundred records.

    Args:
        path: Path of the file, for errors.
        records: Lines of `read`, or elements of a list.

    Raises:
        InputError: if none of them is an object.
    """
    names: dict[str, None] = {}
    problem = ""
    for row, record in zip(range(1, _HEAD_LINES + 1), records, strict=False):
        if isinstance(record, Objects):
            return list(dict.fromkeys([*names, *itertools.chain(*record.values[:_HEAD_LINES])]))
        if record is not None and not record.strip():
            continue
        values, reason = parse(record)
        problem = problem or (f"row {row}: {reason}" if reason else "")
        names.update(dict.fromkeys(values or ()))
    if problem and not names:
        raise InputError(
            f"{path} cannot be read as JSON: no record is a JSON object ({problem}). Every line, "
            'or every element of one list, must be one, such as {"item_id": "a"}.'
        )
    return list(names)


def is_deep(values: Any) -> bool:
    """Whether a parsed value is nested deeper than `DEEPEST` levels."""
    level = [values]
    for _ in range(DEEPEST):
        parts = (value.values() if isinstance(value, dict) else value for value in level)
        level = [part for found in parts for part in found if isinstance(part, (dict, list))]
        if not level:
            return False
    return True
