"""JSON objects in one list, or one after the other over several lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from kdsr_tf.errors import InputError
from kdsr_tf.sources.json_lines import LONGEST_LINE_BYTES, Objects, is_deep

_BLOCK_BYTES = 1 << 20

MOST_TOGETHER = 4096
"""Most objects that are given together."""
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_MARKS = re.compile(r'\\.|"(?:[^"\\]|\\.)*"|["\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_NEXT_ELEMENT = re.compile(r"[\]}]\s*,\s*[\[{]")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_DECODER = json.JSONDecoder()

_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[list(b" \t\r\n\v\f")] = True
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
"""How much deeper a bracket leads."""


def elements(path: str, file: Any) -> Iterator[bytes | Objects]:
    """The elements of a list, parsed or as JSON; the memory holds a block at a time.

    Well-formed objects are parsed many at once, which takes a third of the time. An element that
    is not valid JSON is one nevertheless if its brackets tell where it ends.

    Args:
        path: Path of the file, for errors.
        file: Binary file; `[` may be missing, and then `]` is, too.

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


class ElementCounter:
    """Counts the elements of a list, from brackets, commas and quotation marks only."""

    def __init__(self) -> None:
        self._rest = b""
        self._depth = 0
        self._base: int | None = None
        self._in_text = False
        self._expects = True
        self.count = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        block, self._rest = self._rest + data, b""
        if self._base is None:
            block = block.lstrip(codecs.BOM_UTF8 + b" \t\r\n")
            if not block:
                return
            self._base = self._depth = int(block[:1] == b"[")
            block = block[self._base :]
        block = _ESCAPED.sub(b"s", block)
        if block.endswith(b"\\"):
            block, self._rest = block[:-1], b"\\"
        marks = np.frombuffer(block, np.uint8)
        is_quote = marks == ord('"')
        texts = np.cumsum(is_quote) + self._in_text
        # Of a text only its first quotation mark stays.
        is_outside = (texts - is_quote) % 2 == 0
        if len(texts):
            self._in_text = bool(texts[-1] % 2)
        self._count(marks[is_outside & ~_IS_SPACE[marks]], self._base)

    def _count(self, marks: np.ndarray, base: int) -> None:
        """Count elements from characters, in which a text is one mark.

        An element begins with the first character after a comma or bracket that ended another.
        """
        steps = _STEPS[marks]
        after = self._depth + np.cumsum(steps)
        is_end = (after == base) & ((steps < 0) | (marks == ord(",")))
        can_begin = (after - steps == base) & (marks != ord(",")) & (marks != ord("]"))
        ends_before = np.cumsum(is_end) - is_end
        begun = np.unique(ends_before[can_begin])
        num_ends = int(is_end.sum())
        self.count += len(begun) - int(0 in begun and not self._expects)
        self._expects = (num_ends > 0 or self._expects) and num_ends not in begun
        self._depth += int(steps.sum())
