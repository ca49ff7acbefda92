"""Published files with one record per line, as pieces of a source.

A format is a function from a line to the values under the names of the source
format. Builders and `kdsr data import` read through the same one.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from kdsr_tf.sources import json_lines
from kdsr_tf.sources.batches import Batch, Piece
from kdsr_tf.sources.files import read_records
from kdsr_tf.sources.line_counts import LineCounter, read_all
from kdsr_tf.sources.streams import opened

Parsed = tuple[dict[str, Any] | None, str]
"""Values of a line, or None and the reason why it has none."""

_HEAD_LINES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinesPiece(Piece):
    """A whole file, packed or not.

    Args:
        path: Local path or URI.
        group: 0.
        first_row: 0.
        names: Columns to rename, as in `Piece`.
        parse: A line, or None if it was too long, to its values.
        columns: Names that are read of what `parse` gives, if no others are asked for.
        encoding: Encoding of a text that is not UTF-8.
        left_out: What the last reading left out: records by the name of the field. A
            field without a value is not counted.
    """

    path: str
    group: int = 0
    first_row: int = 0
    parse: Callable[[bytes | None], Parsed]
    columns: tuple[str, ...]
    encoding: str | None = None
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
            for name, value in (values or {}).items():
                if name not in known and value not in (None, "", [], {}):
                    self.left_out[name] += 1
            return values, reason

        with opened(self.path, self.encoding) as file:
            counter = LineCounter.of_records()
            yield from read_all(
                self.path,
                file,
                counter,
                lambda counted: read_records(self, json_lines.read(counted), columns, parse),
            )


def head(path: str, encoding: str | None = None) -> list[bytes]:
    """The first lines of a file that are not blank."""
    with opened(path, encoding) as file:
        lines = (line.rstrip(b"\r\n") for line in json_lines.read(file) if line and line.strip())
        return list(itertools.islice(lines, _HEAD_LINES))


def shown(lines: list[bytes]) -> str:
    """The first line of `head`, for an error."""
    return repr(lines[0][:80].decode("utf-8", "replace")) if lines else "none, for it is empty"
