"""Rows of the user's data as they are read: pieces of files, batches, columns, dead letters."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kdsr_tf.errors import InputError

Names = tuple[tuple[str, str], ...]
"""Columns to rename: `(expected name, own name)`."""

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
        return f"{self.where}: {shortened(text, _LONGEST_EXAMPLE)}"


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file that one worker reads.

    Args:
        path: Local path or URI.
        names: Columns to rename: `(expected name, name in the file)`.
        first_row: Rows of the file before this piece.
    """

    path: str
    names: Names = ()
    first_row: int = 0

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


def shortened(text: str, longest: int = _LONGEST_REJECTED_TEXT) -> str:
    """Text of a dead letter: encodable, and cut if it is long."""
    text = text if len(text) <= longest else text[:longest] + "…"
    return text.encode("utf-8", "replace").decode()


def names_in(
    columns: Mapping[str, str], found: Sequence[str], wanted: Iterable[str] | None = None
) -> Names:
    """What of `source.columns` (own names by expected ones) applies to the columns of a file.

    `wanted` are the expected names that matter in it; None takes all.
    """
    return tuple(
        (name, own)
        for name, own in sorted(columns.items())
        if own in found and own != name and (wanted is None or name in wanted)
    )


def renamed(found: Sequence[str], names: Names) -> tuple[str, ...]:
    """Column names after renaming, as `files.read_batches` gives them.

    Example:
        >>> renamed(["asin", "name", "title"], (("item_id", "asin"), ("title", "name")))
        ('item_id', 'title')
    """
    taken = {name for pair in names for name in pair}
    return (*(name for name, _ in names), *(name for name in found if name not in taken))


def check_own_names(columns: Mapping[str, str], found: Iterable[str], path: str) -> None:
    """Refuse a `source.columns` entry whose own name occurs nowhere."""
    found = sorted(set(found))
    for name, own in columns.items():
        if own not in found:
            raise InputError(
                f"`source.columns` (--column) takes {name} from the column {own!r}, which {path} "
                f"does not have. Columns found: {', '.join(found) or 'none'}."
            )


def check_columns(
    path: str, found: Sequence[str], names: Names, required: Iterable[str]
) -> tuple[str, ...]:
    """The column names after renaming; an empty file or a missing column is an error."""
    if not found:
        raise InputError(f"{path} is empty: it has no rows and no column names.")
    columns = renamed(found, names)
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}. "
            f"Columns found: {', '.join(found)}. If a column has another name, give it: "
            f"--set source.columns.{missing[0]}=NAME, or --column {missing[0]}=NAME to "
            "`kdsr data import`."
        )
    return columns
