"""Published files with one record per line, as pieces of a source.

A format is a function from a line to the values under the names of the source
format. Builders and `kdsr data import` read through the same one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gzip
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import fsspec

from kdsr_tf.sources import json_lines
from kdsr_tf.sources.batches import Batch, Piece
from kdsr_tf.sources.files import read_lines

Parsed = tuple[dict[str, Any] | None, str]
"""Values of a line, or None and the reason why it has none."""

_GZIP = b"\x1f\x8b"
_HEAD_LINES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinesPiece(Piece):
    """A whole file, packed with gzip or not.

    Args:
        path: Local path or URI.
        group: 0.
        first_row: 0.
        names: Columns to rename, as in `Piece`.
        parse: A line, or None if it was too long, to its values.
        columns: Names that are read of what `parse` gives, if no others are asked for.
        left_out: What the last reading left out: records by the name of the field. A
            field without a value is not counted.
    """

    path: str
    group: int = 0
    first_row: int = 0
    parse: Callable[[bytes | None], Parsed]
    columns: tuple[str, ...]
    left_out: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter, compare=False
    )

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the columns of the format."""
        self.left_out.clear()
        columns = columns or list(self.columns)
        known = set(columns)

        def parse(line: bytes | None) -> Parsed:
            values, reason = self.parse(line)
            for name in values or ():
                if name not in known and values[name] not in (None, "", [], {}):
                    self.left_out[name] += 1
            return values, reason

        with opened(self.path) as file:
            yield from read_lines(self, file, columns, parse)


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """A binary file, unpacked if its content is gzip, whatever its name."""
    with fsspec.open(path, "rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                yield unpacked
        else:
            yield file


def head(path: str) -> list[bytes]:
    """The first lines of a file that are not blank."""
    with opened(path) as file:
        lines = (line.rstrip(b"\r\n") for line in json_lines.read(file) if line and line.strip())
        return list(itertools.islice(lines, _HEAD_LINES))


def shown(lines: list[bytes]) -> str:
    """The first line of `head`, for an error."""
    return repr(lines[0][:80].decode("utf-8", "replace")) if lines else "none, for it is empty"
