"""What a source of interactions and catalogue offers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources import catalogue_rows
from kdsr_tf.sources.batches import TFDS_PREFIX, Piece, Rejected
from kdsr_tf.sources.catalogue_rows import CatalogueRow
from kdsr_tf.sources.image_files import allowed_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A user's data, found and checked by `open_source`.

    Args:
        path: Folder, URI or `tfds:` name.
        interactions: Path of the interactions; its `batches.label` begins their dead letters.
        items: Path of the catalogue, likewise.
        item_columns: Columns of the catalogue.
        title_column: Column shown to people.
        image_column: Column with the path of the picture.
        image_folders: Further folders and URIs in which pictures may lie.
    """

    path: str
    interactions: str
    items: str
    item_columns: tuple[str, ...]
    title_column: str
    image_column: str
    image_folders: tuple[str, ...] = ()

    @property
    def folder(self) -> str | None:
        """The folder of its own in which pictures may lie, if it has one."""
        return None

    @property
    def may_have_more_columns(self) -> bool:
        """Whether `item_columns` are only those of the first records, as of JSON."""
        return False

    def fingerprint(self) -> str:
        """Hash of everything that an artifact made from the source depends on."""
        raise NotImplementedError

    def num_interactions(self) -> int:
        """Rows of the interactions, without reading their values."""
        raise NotImplementedError

    def interaction_pieces(self) -> list[Piece]:
        """Parts of the interactions that workers read side by side."""
        raise NotImplementedError

    def item_pieces(self) -> list[Piece]:
        """Parts of the catalogue that workers read side by side."""
        raise NotImplementedError

    def image_path(self, value: str) -> str:
        """Path or URI of a picture, from what the image column says: a whole path or URI below
        `folder` or one of `image_folders`, or one relative to the first of them.

        Raises:
            InputError: if it leads outside of them; see `image_files.allowed_path`.
        """
        own = () if self.folder is None else (self.folder,)
        return allowed_path(value, (*own, *self.image_folders))

    def read_items(self) -> Iterator[CatalogueRow | Rejected]:
        """All rows of the catalogue, in file order."""
        for piece in self.item_pieces():
            yield from catalogue_rows.read_items(piece, self.image_column)


def open_source(config: SourceConfig) -> Source:
    """Find a user's data and check that the columns are there.

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

        return open_dataset(config, config.path)
    from kdsr_tf.sources.folder import open_folder

    return open_folder(config, config.path)
