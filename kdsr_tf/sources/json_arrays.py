"""JSON objects in one list, or one after the other over several lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, cast

from kdsr_tf.errors import InputError
from kdsr_tf.sources.json_lines import LONGEST_LINE_BYTES

_BLOCK_BYTES = 1 << 20
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_MARKS = re.compile(r'\\.|"(?:[^"\\]|\\.)*"|["\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_NEXT_ELEMENT = re.compile(r"[\]}]\s*,\s*[\[{]")
_TOKENS = re.compile(rb'\\.|["\[\]{},]|[^\s\\"\[\]{},]+', re.DOTALL)


def elements(path: str, file: Any) -> Iterator[bytes]:
    """The elements of a list, each as JSON; the memory holds one at a time.

    An element that is not valid JSON is one nevertheless if its brackets tell where it ends.

    Args:
        path: Path of the file, for errors.
        file: Binary file; `[` may be missing, and then `]` is, too.

    Raises:
        InputError: for any other element that is not valid JSON, and for a list without an end.
    """
    decoder = json.JSONDecoder()
    # A byte that is not UTF-8 costs its element only.
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    buffer, place, is_list, count, ended = "", 0, None, 0, False
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
            try:
                _, end = decoder.raw_decode(buffer, place)
            except (ValueError, RecursionError) as error:
                problem, end = str(error), _end_of_brackets(buffer, place)
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
        data, self._rest = self._rest + data, b""
        if self._base is None:
            data = data.lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark and spaces
        if (len(data) - len(data.rstrip(b"\\"))) % 2:
            data, self._rest = data[:-1], b"\\"
        for token in _TOKENS.findall(data):
            if self._in_text:
                self._in_text = token != b'"'
                continue
            if self._base is None:
                self._base = self._depth = int(token == b"[")
                if self._base:
                    continue
            is_between = token in (b",", b"]")
            if self._depth == self._base and self._expects and not is_between:
                self.count, self._expects = self.count + 1, False
            self._in_text = token == b'"'
            self._depth += (token in (b"[", b"{")) - (token in (b"]", b"}"))
            self._expects |= self._depth == self._base and token in (b",", b"]", b"}")
