"""The lines of a block of delimited text, and which of them are whole rows."""

from __future__ import annotations

from typing import Any

import numpy as np

_LINE_FEED, _RETURN = b"\n\r"


class TableLines:
    """The lines of a block.

    Args:
        block: Whole lines.
        delimiter: Byte between fields.
        num_fields: Fields of a row.
    """

    def __init__(self, block: bytes, delimiter: int, num_fields: int):
        self._bytes = np.frombuffer(block, np.uint8)
        is_return = self._bytes == _RETURN
        is_feed = self._bytes == _LINE_FEED
        # A carriage return before a line feed ends no line of its own.
        is_end = is_feed | (is_return & ~np.append(is_feed[1:], False))
        self.ends = np.flatnonzero(is_end)
        self.starts = np.append(0, self.ends[:-1] + 1)[: len(self.ends)]
        length = self.ends - self.starts
        two = is_feed[self.ends] & (length > 0) & is_return[self.ends - 1]
        self.is_empty = length - two == 0
        places = np.flatnonzero(self._bytes == delimiter)
        self.num_fields = np.diff(np.searchsorted(places, np.append(-1, self.ends))) + 1
        self.is_good = (self.num_fields == num_fields) & ~self.is_empty
        self._continues = np.zeros(len(self.ends), bool)

    def with_byte(self, byte: int) -> np.ndarray:
        """Numbers of the lines that hold a byte."""
        return np.unique(self.line_of(np.flatnonzero(self._bytes == byte)))

    def line_of(self, place: Any) -> Any:
        """Number of the line at a place."""
        return np.searchsorted(self.ends, place)

    def take(self, line: int, end: int) -> None:
        """Mark all lines in between that are not empty as whole rows."""
        self.is_good[line:end] = ~self.is_empty[line:end]

    def join(self, line: int, last: int, is_good: bool) -> None:
        """Make one row of several lines."""
        self.is_good[line] = is_good
        self.is_good[line + 1 : last + 1] = False
        self._continues[line + 1 : last + 1] = True

    def last(self, line: int) -> int:
        """The last line of the row that begins on a line."""
        while line + 1 < len(self.ends) and self._continues[line + 1]:
            line += 1
        return line

    def cut(self, used: int) -> None:
        """Drop the lines from a place on."""
        size = int(np.searchsorted(self.ends, used))
        for name in ("ends", "starts", "is_empty", "num_fields", "is_good", "_continues"):
            setattr(self, name, getattr(self, name)[:size])

    def is_row(self) -> np.ndarray:
        """Whether a row begins on the line, bool `[lines]`."""
        return ~self._continues & ~self.is_empty

    def good_bytes(self, block: bytes) -> bytes:
        """The block without rejected rows."""
        begins = ~self._continues
        keep = (self.is_good | self.is_empty)[begins][np.cumsum(begins) - 1]
        if keep.all():
            return block
        kept = np.repeat(keep, self.ends - self.starts + 1)
        return self._bytes[: len(kept)][kept].tobytes()
