"""A published data set as a source."""

from __future__ import annotations

import dataclasses

from kdsr_tf.datasets.published.lines import LinesPiece, opened
from kdsr_tf.sources import files
from kdsr_tf.sources.batches import Piece, label
from kdsr_tf.sources.columns import renamed
from kdsr_tf.sources.folder import FolderSource
from kdsr_tf.sources.interactions import COLUMNS


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSource(FolderSource):
    """Interactions and catalogue of an edition.

    Args:
        interaction_piece: All interactions.
        item_piece: All items.
    """

    interaction_piece: Piece
    item_piece: Piece

    def num_interactions(self) -> int:
        """Lines of the interactions file, unpacked."""
        with opened(self.interactions) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def interaction_pieces(self) -> list[Piece]:
        """The file in one piece."""
        return [self.interaction_piece]

    def item_pieces(self) -> list[Piece]:
        """The file in one piece."""
        return [self.item_piece]

    def left_out(self) -> dict[str, dict[str, int]]:
        """What the last reading left out, by file: records by field, or rows by reason."""
        found = {}
        for piece in (self.interaction_piece, self.item_piece):
            if isinstance(piece, LinesPiece):
                found[label(piece.path)] = dict((+piece.left_out).most_common())
        if label(self.interactions) not in found:
            columns = renamed(files.column_names(self.interactions), self.interaction_piece.names)
            rows = files.count_rows(self.interactions)
            unread = {name: rows for name in columns if name not in COLUMNS}
            found = {label(self.interactions): unread} | found
        return {file: counts for file, counts in found.items() if counts}
