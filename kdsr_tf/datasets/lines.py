"""Published files with one record per line, as pieces of a source.

A format is a function from a line to the values under the names of the source
format. Builders and `kdsr data import` read through the same one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import fsspec

from kdsr_tf.sources.batches import Batch, Piece
from kdsr_tf.sources.files import read_lines
from kdsr_tf.sources.folder import FolderSource

Parsed = tuple[dict[str, Any] | None, str]
"""Values of a line, or None and the reason why it has none."""

_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinesPiece(Piece):
    """A whole file, packed with gzip or not.

    Args:
        path: Local path or URI.
        group: 0.
        first_row: 0.
        names: Columns to rename, as in `Piece`.
        parse: A line, or None if it was too long, to its values.
        columns: Names that `parse` gives.
    """

    path: str
    group: int = 0
    first_row: int = 0
    parse: Callable[[bytes | None], Parsed]
    columns: tuple[str, ...]

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the columns of the format."""
        with opened(self.path) as file:
            yield from read_lines(self, file, columns or list(self.columns), self.parse)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinesSource(FolderSource):
    """Interactions and catalogue in published formats.

    Args:
        interaction_piece: All interactions.
        item_piece: All items.
    """

    interaction_piece: LinesPiece
    item_piece: LinesPiece

    def num_interactions(self) -> int:
        """Lines of the interactions file, unpacked."""
        with opened(self.interactions) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def interaction_pieces(self) -> list[LinesPiece]:
        """The file in one piece."""
        return [self.interaction_piece]

    def item_pieces(self) -> list[LinesPiece]:
        """The file in one piece."""
        return [self.item_piece]


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
