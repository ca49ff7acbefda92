"""From two published files to a source."""

from __future__ import annotations

from kdsr_tf.config import SourceConfig
from kdsr_tf.datasets.import_options import Reading
from kdsr_tf.datasets.published import amazon, movielens
from kdsr_tf.datasets.published.published_source import PublishedSource
from kdsr_tf.errors import InputError
from kdsr_tf.sources.encodings import UTF_8, marked, settled_encoding
from kdsr_tf.sources.image_paths import check_folders
from kdsr_tf.sources.streams import opened


def open_published(
    reading: Reading, config: SourceConfig, folder: str, interactions: str, items: str
) -> PublishedSource:
    """Tell which edition two files are, and how they are read.

    Args:
        reading: How they are read; `published` is `movielens` or `amazon`.
        config: Section `source`; `image_folders` declares addresses of pictures.
        folder: Absolute folder where relative paths of pictures start.
        interactions: Path of the interactions.
        items: Path of the catalogue.

    Raises:
        InputError: for a file that is not of such an edition.
    """
    for option in reading.options_of_tables():
        raise InputError(f"--format={reading.published} knows its columns: leave out {option}.")
    told = reading.encoding
    encodings = _encoding(interactions, told), _encoding(items, told)
    if reading.published == "movielens":
        ratings, catalogue, columns = movielens.pieces(interactions, items, encodings)
    else:
        ratings, catalogue, columns = amazon.pieces(
            interactions, items, encodings, config.image_folders
        )
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
