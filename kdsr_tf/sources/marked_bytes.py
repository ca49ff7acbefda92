"""Bytes that are not UTF-8, passed as marks through a reader that takes UTF-8 only.

Arrow shows rows with a wrong number of fields as text. One that is none would end the
whole file, so every such byte goes in as a character that no text uses and comes out
as the byte that it was.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

import pyarrow as pa

_FIRST_MARK = 0x10FE00
"""Marks are U+10FE80 to U+10FEFF, of a plane for private use."""

_MARKS = re.compile("[\U0010fe80-\U0010feff]")
_MARKS_IN_BYTES = re.compile(b"\xf4\x8f[\xba\xbb]([\x80-\xbf])")
_LOW_HALF = 0xBA


class MarkedFile:
    """A binary file whose content reads as UTF-8 whatever it is.

    Args:
        file: Binary file, read from where it is.
    """

    closed = False

    def __init__(self, file: Any):
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")(_mark.__name__)
        self._waiting = b""
        self.has_marks = False
        """Whether a mark has been read so far."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while len(self._waiting) < size:
            data = self._file.read(size)
            text = self._decoder.decode(data, final=not data)
            self.has_marks = self.has_marks or is_marked(text)
            self._waiting += text.encode()
            if not data:
                break
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        return found


def is_marked(text: str) -> bool:
    """Whether a text holds marks."""
    return _MARKS.search(text) is not None


def readable(text: str) -> str:
    """A text with replacement characters for its marks."""
    return _MARKS.sub("\ufffd", text)


def unmarked(column: pa.BinaryArray) -> pa.BinaryArray:
    """Values with the bytes that were marked."""
    values = (None if value is None else _unmark(value) for value in column.to_pylist())
    return pa.array(values, column.type)


def _unmark(value: bytes) -> bytes:
    def byte(mark: re.Match[bytes]) -> bytes:
        return mark[1] if mark[0][2] == _LOW_HALF else bytes([mark[1][0] + 0x40])

    return _MARKS_IN_BYTES.sub(byte, value)


def _mark(error: UnicodeDecodeError) -> tuple[str, int]:
    wrong = error.object[error.start : error.end]
    return "".join(chr(_FIRST_MARK + byte) for byte in wrong), error.end


codecs.register_error(_mark.__name__, _mark)
