"""Rows of the user's data as they are read: pieces of files, batches of rows, dead letters."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kdsr_tf.sources.columns import Names

BATCH_ROWS = 65_536
"""Most rows of a batch; large rows come in smaller batches."""

TFDS_PREFIX = "tfds:"
"""Beginning of a path that names a TFDS dataset instead of a file."""

_LONGEST_EXAMPLE = 60
_LONGEST_REJECTED_TEXT = 2_000


class Rejected(NamedTuple):
    """A row that cannot be used.

    Args:
        reason: Short and equal for equal causes, so that reasons can be counted.
        where: File and row.
        row: The row as JSON.
    """

    reason: str
    where: str
    row: str

    @property
    def example(self) -> str:
        """Where the row is and what it holds: the column that the reason names, or all."""
        values = json.loads(self.row)
        name = self.reason.partition(" ")[0]
        if isinstance(values, dict) and name in values:
            values = values[name]
        text = json.dumps(values, ensure_ascii=False)
        shown = text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + "…"
        return f"{self.where}: {shown}"


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file that one worker reads.

    Args:
        path: Local path or URI.
        group: Row group of a Parquet file; 0 for other formats.
        first_row: Rows of the file before this piece.
        names: Columns to rename: `(expected name, name in the file)`.
    """

    path: str
    group: int
    first_row: int
    names: Names = ()

    def where(self, row: int) -> str:
        """Name of a row in error messages; rows count from 1."""
        return f"{label(self.path)} row {row + 1}"

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the file's own column names; `files.read_batches` renames them."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some rows of a piece.

    Args:
        rows: Row numbers in the file from 0, int64 `[n]`.
        columns: Per column `n` values: an Arrow array (Parquet, CSV as bytes)
            or a list (JSON lines). A column absent from the file is left out.
        rejected: Rows that could not be read at all.
        lines: Lines of the file that the batch takes, without empty ones; -1 if every
            row is one.
    """

    rows: np.ndarray
    columns: dict[str, pa.Array | list[Any]]
    rejected: list[Rejected]
    lines: int = -1

    @property
    def num_lines(self) -> int:
        """Lines of the file that the batch takes."""
        return len(self.rows) + len(self.rejected) if self.lines < 0 else self.lines


def label(path: str) -> str:
    """Short name of a file in dead letters: its last part, or a whole `tfds:` name."""
    return path if path.startswith(TFDS_PREFIX) else posixpath.basename(path)


def rejected_line(line: bytes) -> str:
    """A line as the `row` of a dead letter."""
    text = shortened(line.decode("utf-8", "replace").rstrip("\r\n"))
    return json.dumps(text, ensure_ascii=False)


def shortened(text: str) -> str:
    """Text of a dead letter: encodable, and cut if it is long."""
    text = text if len(text) <= _LONGEST_REJECTED_TEXT else text[:_LONGEST_REJECTED_TEXT] + "…"
    return text.encode("utf-8", "replace").decode()
