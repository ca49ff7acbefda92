"""Two published files as a source."""

from __future__ import annotations

import dataclasses

from kdsr_tf.config import SourceConfig
from kdsr_tf.datasets.import_options import Reading
from kdsr_tf.datasets.published import amazon, movielens
from kdsr_tf.datasets.published.lines import LinesPiece
from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import Piece, label, renamed
from kdsr_tf.sources.files import FilePiece, count_lines
from kdsr_tf.sources.folder import FolderSource
from kdsr_tf.sources.image_files import check_folders
from kdsr_tf.sources.interaction_rows import COLUMNS
from kdsr_tf.sources.streams import UTF_8, marked, opened, settled_encoding


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSource(FolderSource):
    """Interactions and catalogue of an edition."""

    interaction_piece: FilePiece
    item_piece: FilePiece

    def num_interactions(self) -> int:
        return count_lines(self.interactions, self.interaction_piece.form)

    def interaction_pieces(self) -> list[Piece]:
        return [self.interaction_piece]

    def item_pieces(self) -> list[Piece]:
        return [self.item_piece]

    def left_out(self) -> dict[str, dict[str, int]]:
        """What the last reading left out, by file: records by field, or rows by reason."""
        found = {}
        for piece in (self.interaction_piece, self.item_piece):
            if isinstance(piece, LinesPiece):
                found[label(piece.path)] = dict((+piece.left_out).most_common())
        if not isinstance(self.interaction_piece, LinesPiece):
            columns = renamed(self.interaction_piece.form.columns, self.interaction_piece.names)
            rows = self.num_interactions()
            unread = {name: rows for name in columns if name not in COLUMNS}
            found = {label(self.interactions): unread} | found
        return {file: counts for file, counts in found.items() if counts}


def open_published(
    reading: Reading, config: SourceConfig, folder: str, interactions: str, items: str
) -> PublishedSource:
    """Tell which edition two files are, and how they are read.

    Relative paths of pictures start at the absolute `folder`; `image_folders` of the
    configuration declares their addresses.
    """
    for option in reading.options_of_tables():
        raise InputError(f"--format={reading.published} knows its columns: leave out {option}.")
    told = reading.encoding
    encodings = _encoding(interactions, told), _encoding(items, told)
    if reading.published == "movielens":
        ratings, catalogue, columns = movielens.pieces(interactions, items, encodings)
    else:
        images = config.image_folders
        ratings, catalogue, columns = amazon.pieces(interactions, items, encodings, images)
    return PublishedSource(
        path=folder,
        interactions=interactions,
        items=items,
        item_columns=tuple(columns),
        title_column=config.title_column,
        image_column=config.image_column,
        image_folders=check_folders(config.image_folders),
        interaction_piece=ratings,
        item_piece=catalogue,
    )


def _encoding(path: str, told: str | None) -> str | None:
    """Encoding that the user or a byte order mark tells, other than UTF-8."""
    if told:
        return settled_encoding(path, told)
    with opened(path) as file:
        encoding = marked(file.read(4))
    return None if encoding == UTF_8 else encoding
