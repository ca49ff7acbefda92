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
_TOKENS = re.compile(rb'\\.|["\[\]{},]|[^\s\\"\[\]{},]+', re.DOTALL)


def elements(path: str, file: Any) -> Iterator[bytes]:
    """The elements of a list, each as JSON; the memory holds one at a time.

    Args:
        path: Path of the file, for errors.
        file: Binary file; `[` may be missing, and then `]` is, too.

    Raises:
        InputError: for an element that is not valid JSON, and for a list without an end.
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
        if place < len(buffer):
            if is_list and buffer[place] == "]":
                return
            try:
                _, end = decoder.raw_decode(buffer, place)
            except (ValueError, RecursionError) as error:
                problem = str(error)
            else:
                if end < len(buffer) or ended:
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
