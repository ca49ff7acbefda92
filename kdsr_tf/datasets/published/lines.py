"""Published files with one record per line, as pieces of a source.

A format is a function from a line to the values under the names of the source
format. Builders and `kdsr data import` read through the same one.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdsr_tf.sources import json_records
from kdsr_tf.sources.batches import Batch
from kdsr_tf.sources.files import FilePiece, read_records
from kdsr_tf.sources.forms import LINES, Form
from kdsr_tf.sources.streams import opened

Parsed = tuple[dict[str, Any] | None, str]
"""Values of a line, or None and the reason why it has none."""

_HEAD_LINES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinesPiece(FilePiece):
    """A whole file, packed or not; its form names the columns of what `parse` gives.

    Args:
        parse: A line, or None if it was too long, to its values.
        left_out: What the last reading left out: records by the name of the field. A
            field without a value is not counted.
    """

    parse: Callable[[bytes | None], Parsed]
    left_out: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter, compare=False
    )

    def _read_text(self, file: Any, columns: list[str] | None) -> Iterator[Batch]:
        self.left_out.clear()
        columns = columns or list(self.form.columns)
        known = set(columns)

        def parse(line: bytes | None) -> Parsed:
            values, reason = self.parse(line)
            for name, value in (values or {}).items():
                if name not in known and value not in (None, "", [], {}):
                    self.left_out[name] += 1
            return values, reason

        return read_records(self, json_records.read_lines(file), columns, parse)


def lines_form(columns: Sequence[str], encoding: str | None = None) -> Form:
    """Form of a file with one record per line; an encoding None is UTF-8."""
    return Form(kind=LINES, columns=tuple(columns), encoding=encoding)


def head(path: str, encoding: str | None = None) -> list[bytes]:
    """The first lines of a file that are not blank."""
    with opened(path, encoding) as file:
        lines = filter(None, json_records.read_lines(file))
        filled = (line.rstrip(b"\r\n") for line in lines if line.strip())
        return list(itertools.islice(filled, _HEAD_LINES))


def shown(lines: list[bytes]) -> str:
    """The first line of `head`, for an error."""
    return repr(lines[0][:80].decode("utf-8", "replace")) if lines else "none, for it is empty"
