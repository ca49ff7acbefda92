"""JSON objects, one per line, in one list, or one after the other over several lines."""

from __future__ import annotations

import ast
import codecs
import io
import itertools
import json
import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from kdsr_tf.errors import InputError

LONGEST_LINE_BYTES = 16 << 20
"""Lines above it are not read: one without an end would fill the memory."""

DEEPEST = 32
"""Levels of lists and objects; far deeper ones exhaust the stack of code that copies them."""

NOT_JSON = "not valid JSON"
TOO_DEEP = f"nested deeper than {DEEPEST} levels"
"""Why a line has no values."""

_HEAD_LINES = 100

_BLOCK_BYTES = 1 << 20

MOST_TOGETHER = 4096
"""Most objects that are given together."""
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_MARKS = re.compile(r'\\.|"(?:[^"\\]|\\.)*"|["\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_NEXT_ELEMENT = re.compile(r"[\]}]\s*,\s*[\[{]")
_DECODER = json.JSONDecoder()


class Objects(NamedTuple):
    """Records in a row that were parsed together; `size` is their length as JSON."""

    values: list[dict[str, Any]]
    size: int


Records = Iterable[bytes | Objects | None]
"""Lines, or elements of a list; None for a line that is too long."""


def read(path: str, file: Any, is_list: bool) -> Records:
    """The records of a binary file."""
    return elements(path, file) if is_list else read_lines(file)


def read_lines(file: Any) -> Iterator[bytes | None]:
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
    """A line of `read_lines` as an object, or None and the reason why it is not one."""
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


def column_names(path: str, records: Records) -> list[str]:
    """Names in the first hundred records, at least one of which must be an object."""
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


def python_literal(text: str) -> Any:
    """What Python's `repr` has written; anything else is a `ValueError`."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None


def is_deep(values: Any) -> bool:
    """Whether a parsed value is nested deeper than `DEEPEST` levels."""
    level = [values]
    for _ in range(DEEPEST):
        parts = (value.values() if isinstance(value, dict) else value for value in level)
        level = [part for found in parts for part in found if isinstance(part, (dict, list))]
        if not level:
            return False
    return True


def elements(path: str, file: Any) -> Iterator[bytes | Objects]:
    """The elements of a list, parsed or as JSON; the memory holds a block at a time.

    Well-formed objects are parsed many at once, which takes a third of the time. An element that
    is not valid JSON is one nevertheless if its brackets tell where it ends. The `[` of a file
    may be missing, and then `]` is, too.

    Raises:
        InputError: for any other element that is not valid JSON, and for a list without an end.
    """
    # A byte that is not UTF-8 costs its element only.
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    buffer, place, is_list, count, ended, one_by_one = "", 0, None, 0, False, False
    while True:
        between = cast(re.Match[str], _BETWEEN.match(buffer, place))  # of no character at least
        place = between.end()
        if is_list is None and place < len(buffer):
            is_list = buffer[place] == "["
            place += is_list
            continue
        problem = "the list has no end"
        end: int | None
        if place < len(buffer):
            if is_list and buffer[place] == "]":
                if not (buffer[place + 1 :].strip() or file.read(_BLOCK_BYTES).strip()):
                    return
                raise InputError(
                    f"{path} cannot be read as JSON after row {count:,}: the list ends, and more "
                    "follows. Join what follows to the list."
                )
            if not one_by_one:
                one_by_one = True
                found, end = _whole_objects(buffer, place)
                for start in range(0, len(found), MOST_TOGETHER):
                    part = found[start : start + MOST_TOGETHER]
                    yield Objects(part, (end - place) * len(part) // len(found))
                count, place = count + len(found), end
                continue
            end, problem = _end_of_element(buffer, place)
            if end is not None and (end < len(buffer) or ended):
                yield buffer[place:end].encode("utf-8", "surrogateescape")
                count, place = count + 1, end
                continue
        elif ended and not is_list:
            return
        waiting = len(buffer) - place
        if ended or waiting > LONGEST_LINE_BYTES:
            raise InputError(f"{path} cannot be read as JSON after row {count:,}: {problem}.")
        data = file.read(max(_BLOCK_BYTES, waiting))
        ended = not data
        buffer, place = buffer[place:] + text.decode(data, final=ended), 0
        one_by_one = ended


def count_elements(path: str, file: Any) -> int:
    """Elements of a list, parsed as `elements` does."""
    found = elements(path, file)
    return sum(len(one.values) if isinstance(one, Objects) else 1 for one in found)


def _whole_objects(buffer: str, place: int) -> tuple[list[dict[str, Any]], int]:
    """The objects from a place on that can be parsed together, and the place behind them.

    None of them if a single one is malformed, deep or not Unicode, or is no object: then each is
    read by itself.
    """
    end = buffer.rfind("}", place) + 1
    text = buffer[place:end]
    try:
        text.encode()
        found = json.loads(f"[{text}]")
        if "\\ud" in text or "\\uD" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return [], place
    is_nested = text.count("{") + text.count("[") > len(found)
    is_usable = found and all(isinstance(values, dict) for values in found)
    if not is_usable or (is_nested and any(map(is_deep, found))):
        return [], place
    return found, end


def _end_of_element(buffer: str, place: int) -> tuple[int | None, str]:
    """End of the element at a place, or None and why it cannot be told."""
    try:
        return _DECODER.raw_decode(buffer, place)[1], ""
    except (ValueError, RecursionError) as error:
        return _end_of_brackets(buffer, place), str(error)


def _end_of_brackets(buffer: str, place: int) -> int | None:
    """End of the element that begins with the bracket at a place; None if it is not there."""
    if buffer[place] not in _CLOSING:
        return None
    open_brackets: list[str] = []
    for mark in _MARKS.finditer(buffer, place):
        if mark[0] in _CLOSING:
            open_brackets.append(mark[0])
        elif mark[0] in ("]", "}") and mark[0] == _CLOSING[open_brackets.pop()]:
            if not open_brackets:
                return mark.end()
        elif len(mark[0]) == 1 or _NEXT_ELEMENT.search(mark[0]):
            # Another closing bracket, a text without an end, or one over the next element.
            return None
    return None
