"""Counts the records of a text while it is read, so that a reader cannot lose a row unnoticed."""

from __future__ import annotations

import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import Batch

_SPACES = (9, 11, 12, 13, 32)


class Counter(Protocol):
    """Counts records from bytes; `count` is the number so far."""

    count: int

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        ...


class LineCounter:
    """Counts lines that are not empty.

    Args:
        ends: Bytes that end a line.
        blanks: Bytes that leave a line empty.
    """

    def __init__(self, ends: tuple[int, ...], blanks: tuple[int, ...] = ()):
        self._is_end, self._is_blank = np.zeros(256, bool), np.zeros(256, bool)
        self._is_end[list(ends)] = True
        self._is_blank[list(blanks)] = True
        self._start = b""
        self._has_started = self._in_line = False
        self.count = 0

    @classmethod
    def of_rows(cls) -> LineCounter:
        """Of a table: a carriage return ends a line too, and a space is a value."""
        return cls((10, 13))

    @classmethod
    def of_records(cls) -> LineCounter:
        """Of a text with one record per line."""
        return cls((10,), _SPACES)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        if not self._has_started:
            self._start += data
            if len(self._start) < len(BOM_UTF8) and data:
                return
            data, self._has_started = self._start.removeprefix(BOM_UTF8), True
        characters = np.frombuffer(data, np.uint8)
        is_end = self._is_end[characters[~self._is_blank[characters]]]
        if len(is_end):
            before = np.append(not self._in_line, is_end[:-1])
            self.count += int((before & ~is_end).sum())
            self._in_line = not is_end[-1]


class _CountedFile(io.RawIOBase):
    """A binary file that shows a counter what is read from it."""

    def __init__(self, file: Any, counter: Counter):
        super().__init__()
        self._file = file
        self._counter = counter

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        data = self._file.read(len(buffer))
        self._counter.feed(data)
        buffer[: len(data)] = data
        return len(data)


def read_all(
    path: str,
    file: Any,
    counter: Counter,
    read: Callable[[Any], Iterator[Batch]],
    header_lines: int = 0,
) -> Iterator[Batch]:
    """The batches of a reader; at the end their lines must be those of the file.

    Args:
        path: Path of the file, for the error.
        file: Binary file.
        counter: Counts its records.
        read: Gives batches of a file, whose `num_lines` are compared.
        header_lines: Lines that are in no batch.

    Raises:
        InputError: if a line is in no batch, or in two.
    """
    lines = header_lines
    for batch in read(_CountedFile(file, counter)):
        lines += batch.num_lines
        yield batch
    if lines != counter.count:
        raise InputError(
            f"{path} has {counter.count:,} lines, but {lines:,} were read. This is a mistake of "
            "the reader, not of the file. Please report it, and bring the file as Parquet."
        )


def count_all(file: Any, counter: Counter) -> int:
    """Records of a whole binary file."""
    while data := file.read(1 << 20):
        counter.feed(data)
    counter.feed(b"")
    return counter.count
