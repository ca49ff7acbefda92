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
from kdsr_tf.sources.table_lines import TableLines

LONGEST_ROW_BYTES = 16 << 20
WRONG_NUMBER = "wrong number of CSV fields"
STRAY_MARK = "quotation mark that is not closed, or closed inside the text"

_BLOCK_BYTES = 4 << 20
_MARK = ord('"')
_LINES_LIKE_ROWS = 3
"""Lines of a quoted text that make it a mistake if every one of them looks like a row."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How delimited text is written.

    Args:
        delimiter: One character.
        quoted: Whether fields may be in quotation marks; otherwise a mark is a character.
    """

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
    """Reads delimited text, a block at a time.

    Args:
        path: Path of the file, for errors.
        file: Binary file, read from where it is.
        dialect: How it is written.

    Example:
        >>> rows = TableRows("goods.csv", io.BytesIO(b"id,title\\na,A\\n"), Dialect())
        >>> rows.first(), next(rows.blocks(2)).data
        ([b'id', b'title'], b'a,A\\n')
    """

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
        """Blocks of the remaining rows.

        Args:
            num_fields: Fields that a row has.

        Raises:
            InputError: for a row longer than `LONGEST_ROW_BYTES`.
        """
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
    """Splits blocks of whole lines into rows.

    Args:
        dialect: How the text is written.
        num_fields: Fields of a row.
    """

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
        """Rows of a block, and the bytes that they take.

        Args:
            block: Whole lines.
            first_row: Number of its first row.
            is_last: Whether the file ends with it; otherwise a text that is open at its end
                is left for the next block.
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
