"""From two published files to a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdsr_tf.config import SourceConfig
from kdsr_tf.datasets.published import amazon, movielens
from kdsr_tf.datasets.published.source import PublishedSource
from kdsr_tf.errors import InputError
from kdsr_tf.sources.image_paths import check_folders


def open_published(
    name: str,
    config: SourceConfig,
    folder: str,
    paths: Sequence[str],
    readable: Callable[[str], str],
) -> PublishedSource:
    """Tell which edition two files are, and how they are read.

    Args:
        name: `movielens` or `amazon`.
        config: Section `source`; `image_folders` declares addresses of pictures.
        folder: Absolute folder where relative paths of pictures start.
        paths: Interactions and items.
        readable: Path of an unpacked copy of a CSV file.

    Raises:
        InputError: for a file that is not of an edition of `name`.
    """
    if config.columns:
        raise InputError(f"--format={name} knows its columns: leave out --column.")
    if name == "movielens":
        interactions, items, columns = movielens.pieces(*paths, readable)
    else:
        interactions, items, columns = amazon.pieces(*paths, readable, config.image_folders)
    return PublishedSource(
        path=folder,
        interactions=interactions.path,
        items=items.path,
        item_columns=tuple(columns),
        title_column=config.title_column,
        image_column=config.image_column,
        image_folders=check_folders(config.image_folders),
        interaction_piece=interactions,
        item_piece=items,
    )
