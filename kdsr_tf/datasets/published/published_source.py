"""A published data set as a source."""

from __future__ import annotations

import dataclasses

from kdsr_tf.datasets.published.lines import LinesPiece
from kdsr_tf.sources import files
from kdsr_tf.sources.batches import Piece, label
from kdsr_tf.sources.columns import renamed
from kdsr_tf.sources.files import FilePiece
from kdsr_tf.sources.folder import FolderSource
from kdsr_tf.sources.interaction_rows import COLUMNS
from kdsr_tf.sources.line_counts import LineCounter, count_all
from kdsr_tf.sources.streams import opened


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSource(FolderSource):
    """Interactions and catalogue of an edition.

    Args:
        interaction_piece: All interactions.
        item_piece: All items.
    """

    interaction_piece: FilePiece | LinesPiece
    item_piece: Piece

    def num_interactions(self) -> int:
        """Lines of the interactions file, unpacked."""
        piece = self.interaction_piece
        if isinstance(piece, FilePiece):
            return files.count_lines(piece.path, piece.form)
        with opened(piece.path, piece.encoding) as file:
            return count_all(file, LineCounter.of_records())

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
        if isinstance(self.interaction_piece, FilePiece):
            columns = renamed(self.interaction_piece.form.columns, self.interaction_piece.names)
            rows = self.num_interactions()
            unread = {name: rows for name in columns if name not in COLUMNS}
            found = {label(self.interactions): unread} | found
        return {file: counts for file, counts in found.items() if counts}
