"""Rows of delimited text, with malformed ones set aside: none hides inside another.

A quotation mark that is opened and not closed makes one text of all rows up to the next
mark. Here such a row is rejected, and reading goes on with the next line.
"""

from __future__ import annotations

import dataclasses
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from kdsr_tf.errors import InputError

_LINE_FEED, _RETURN = b"\n\r"

LONGEST_ROW_BYTES = 16 << 20
WRONG_NUMBER = "wrong number of CSV fields"
STRAY_MARK = "quotation mark that is not closed, or closed inside the text"

_BLOCK_BYTES = 4 << 20
_MARK = ord('"')
_LINES_LIKE_ROWS = 3
"""Lines of a quoted text that make it a mistake if every one of them looks like a row."""


class TableLines:
    """The lines of a block of whole lines, whose rows have `num_fields` fields."""

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


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How delimited text is written; if it is not `quoted`, a quotation mark is a character."""

    delimiter: str = ","
    quoted: bool = True


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of a file.

    Args:
        data: Well-formed rows with the expected number of fields, as bytes.
        rows: Numbers of these rows in the file, from 0, int64 `[n]`.
        rejected: Number, reason and bytes of every other row.
        lines: Lines of the file that all these rows take, without empty ones.
        stray_marks: Rows rejected for a quotation mark.
        has_quoted: Whether `data` has a field in quotation marks.
    """

    data: bytes
    rows: np.ndarray
    rejected: list[tuple[int, str, bytes]]
    lines: int
    stray_marks: int = 0
    has_quoted: bool = False


class TableRows:
    """Reads delimited text from where a binary file is, a block at a time."""

    def __init__(self, path: str, file: Any, dialect: Dialect):
        self._path = path
        self._file = file
        self._dialect = dialect
        self._waiting = b""
        self._is_start = True
        self._ended = False
        self.first_lines = 0
        """Lines that the row of `first` takes."""

    def first(self) -> list[bytes] | None:
        """Fields of the first row, which `blocks` then leaves out; [] if there is no row.

        None stands for a row with a stray quotation mark.
        """
        block = self._read(b"").lstrip(b"\r\n")
        record = _any_record(self._dialect).match(block)
        if record is None:
            return None if block else []
        self._waiting = block[record.end() :] + self._waiting
        text = record[0].rstrip(b"\r\n")
        self.first_lines = len(re.findall(rb"[^\r\n]+", text))
        return _fields(text, self._dialect)

    def blocks(self, num_fields: int) -> Iterator[Block]:
        """Blocks of the remaining rows, each of so many fields and at most `LONGEST_ROW_BYTES`."""
        splitter = _Splitter(self._dialect, num_fields)
        row, rest = 0, b""
        while block := self._read(rest):
            found, used = splitter.split(block, row, self._ended and not self._waiting)
            rest = block[used:]
            row += len(found.rows) + len(found.rejected)
            yield found

    def _read(self, rest: bytes) -> bytes:
        """Whole lines: `rest`, which was handed out before, and at least one further line."""
        block = rest + self._waiting
        while not self._ended:
            data = self._file.read(_BLOCK_BYTES)
            self._ended = not data
            block += data
            if self._is_start and block:
                block, self._is_start = block.removeprefix(BOM_UTF8), False
            # A carriage return at the very end may be half of a line end.
            cut = max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1)) + 1
            if cut > len(rest):
                self._waiting = block[cut:]
                return block[:cut]
            if len(block) > LONGEST_ROW_BYTES:
                raise InputError(
                    f"{self._path} has a row longer than {LONGEST_ROW_BYTES:,} bytes. Look for a "
                    "quotation mark that is never closed."
                )
        self._waiting = b""
        return block + b"\n" if block and block[-1] not in b"\r\n" else block


class _Splitter:
    """Splits blocks of whole lines into rows."""

    def __init__(self, dialect: Dialect, num_fields: int):
        self._dialect = dialect
        self._delimiter = ord(dialect.delimiter)
        self._num_fields = num_fields
        field, delimiter, end = _patterns(dialect)
        repeated = b"(?:%b%b){%d}"
        self._record = re.compile(field + repeated % (delimiter, field, num_fields - 1) + end)
        # Plainly one `_record` after the other; one match of many rows saves most of the time.
        short = field.replace(b'[^"]++', b'[^"\r\n]++')
        short_record = short + repeated % (delimiter, short, num_fields - 1) + end
        self._short_records = re.compile(b"(?:%b|%b)*+" % (short_record, end))
        self._any_record = _any_record(dialect)
        self._open = re.compile(b"(?:%b%b)*+" % (field, delimiter) + rb'"(?:[^"]++|"")*+\Z')
        self._quoted_field = re.compile(b'(?:\\A|[\r\n]|%b)"' % delimiter)

    def split(self, block: bytes, first_row: int, is_last: bool) -> tuple[Block, int]:
        """Rows of a block of whole lines, and the bytes that they take.

        A text that is open at its end is left for the next block, unless this is the last one.
        """
        lines = TableLines(block, self._delimiter, self._num_fields)
        reasons: dict[int, str] = {}
        used, has_quoted = len(block), False
        if self._dialect.quoted:
            used, has_quoted = self._look_at_marks(block, lines, reasons, is_last)
            lines.cut(used)
        is_row = lines.is_row()
        numbers = first_row + np.cumsum(is_row) - 1
        rejected = []
        for line in np.flatnonzero(is_row & ~lines.is_good).tolist():
            text = block[lines.starts[line] : lines.ends[lines.last(line)] + 1]
            rejected.append((int(numbers[line]), reasons.get(line, WRONG_NUMBER), text))
        found = Block(
            data=lines.good_bytes(block[:used]),
            rows=numbers[lines.is_good],
            rejected=rejected,
            lines=int((~lines.is_empty).sum()),
            stray_marks=len(reasons),
            has_quoted=has_quoted,
        )
        return found, used

    def _look_at_marks(
        self, block: bytes, lines: TableLines, reasons: dict[int, str], is_last: bool
    ) -> tuple[int, bool]:
        """Judge every row with a quotation mark; the bytes used, and whether a field is quoted."""
        next_line, has_quoted = 0, False
        for line in lines.with_byte(_MARK).tolist():
            if line < next_line:
                continue
            start = int(lines.starts[line])
            records = cast(re.Match[bytes], self._short_records.match(block, start))  # or none
            end = records.end()
            if end > start:
                next_line = lines.line_of(end - 1) + 1
                lines.take(line, next_line)
                has_quoted = has_quoted or bool(self._quoted_field.search(block[start:end]))
                continue
            record = self._record.match(block, start) or self._any_record.match(block, start)
            if record is None:
                still_open = not is_last and len(block) - start < LONGEST_ROW_BYTES
                if still_open and self._open.match(block, start):
                    return start, has_quoted
                lines.is_good[line] = False
                reasons[line] = STRAY_MARK
                continue
            is_whole = record.re is self._record
            last = lines.line_of(record.end() - 1)
            if last > line and self._hides_rows(lines, line, last, is_whole):
                lines.is_good[line] = False
                reasons[line] = STRAY_MARK
                continue
            lines.join(line, last, is_whole)
            next_line = last + 1
            has_quoted = has_quoted or is_whole
        return len(block), has_quoted

    def _hides_rows(self, lines: TableLines, line: int, last: int, is_whole: bool) -> bool:
        """Whether a row over several lines looks like several rows and a stray mark."""
        alike = lines.num_fields[line + 1 : last + 1] == self._num_fields
        if not is_whole:
            return bool(alike[:-1].any())
        if self._num_fields == 1:
            return False
        if self._dialect.delimiter == "\t":
            # A tab hardly ever occurs in a text.
            alike = np.append(alike, lines.num_fields[line] == self._num_fields)
            return bool(alike.all())
        return len(alike) >= _LINES_LIKE_ROWS and bool(alike.all())


def _patterns(dialect: Dialect) -> tuple[bytes, bytes, bytes]:
    """Patterns of a field, of the delimiter and of the end of a line."""
    delimiter = re.escape(dialect.delimiter.encode())
    if not dialect.quoted:
        field = b"[^%b\r\n]*+" % delimiter
    else:
        field = b'(?:"(?:[^"]++|"")*+" *+|[^"%b\r\n][^%b\r\n]*+|)' % (delimiter, delimiter)
    return field, delimiter, b"(?:\r\n|\n|\r)"


def _any_record(dialect: Dialect) -> re.Pattern[bytes]:
    """A row with any number of fields."""
    field, delimiter, end = _patterns(dialect)
    return re.compile(field + b"(?:%b%b)*+" % (delimiter, field) + end)


def _fields(record: bytes, dialect: Dialect) -> list[bytes]:
    field, delimiter, _ = _patterns(dialect)
    values = re.findall(b"(?:\\A|%b)(%b)" % (delimiter, field), record)
    if not dialect.quoted:
        return values
    quoted = [value.rstrip(b" ") if value.startswith(b'"') else value for value in values]
    return [v[1:-1].replace(b'""', b'"') if v.startswith(b'"') else v for v in quoted]
