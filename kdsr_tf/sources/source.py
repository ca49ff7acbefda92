"""What a source of interactions and catalogue offers, and how to open one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources import items
from kdsr_tf.sources.files import TFDS_PREFIX, Piece, Rejected
from kdsr_tf.sources.items import CatalogueRow


class Source(Protocol):
    """A user's data, found and checked by `open_source`.

    Args:
        path: Folder, URI or `tfds:` name.
        interactions: Path of the interactions; its `files.label` begins their
            dead letters.
        items: Likewise of the catalogue.
        item_columns: Columns of the catalogue.
        title_column: Column shown to people.
        image_column: Column with the path of the picture.
    """

    path: str
    interactions: str
    items: str
    item_columns: tuple[str, ...]
    title_column: str
    image_column: str

    def fingerprint(self) -> str:
        """Hash of everything that an artifact made from the source depends on."""
        ...

    def num_interactions(self) -> int:
        """Rows of the interactions, without reading their values."""
        ...

    def interaction_pieces(self) -> list[Piece]:
        """Parts of the interactions that workers read side by side."""
        ...

    def item_pieces(self) -> list[Piece]:
        """Parts of the catalogue that workers read side by side."""
        ...

    def image_path(self, value: str) -> str:
        """Path or URI of a picture, from the content of the image column.

        Raises:
            InputError: if the source does not allow that path.
        """
        ...

    def read_items(self) -> Iterator[CatalogueRow | Rejected]:
        """All rows of the catalogue, in file order."""
        for piece in self.item_pieces():
            yield from items.read_items(piece)


def open_source(config: SourceConfig) -> Source:
    """Find a user's data and check that the columns are there.

    Args:
        config: Section `source` of the configuration.

    Returns:
        A `Source`.

    Raises:
        InputError: for a missing folder, file, dataset or column.
    """
    if config.path is None:
        raise InputError(
            "`source.path` is not set. Give the folder with interactions.* and items.*: "
            "--set source.path=FOLDER."
        )
    if config.path.startswith(TFDS_PREFIX):
        from kdsr_tf.sources.tfds_source import open_dataset

        return open_dataset(config)
    from kdsr_tf.sources.folder import open_folder

    return open_folder(config)
