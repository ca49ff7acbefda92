"""From what a user brings to a source that can be imported."""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Sequence

import fsspec

from kdsr_tf.config import SourceConfig
from kdsr_tf.config.data_sections import TfdsConfig
from kdsr_tf.datasets.catalogue_pictures import Pictures
from kdsr_tf.datasets.import_options import Reading
from kdsr_tf.datasets.item_pictures import ItemPictures
from kdsr_tf.datasets.published.published_source import PublishedSource, open_published
from kdsr_tf.errors import InputError
from kdsr_tf.sources import Source, open_source
from kdsr_tf.sources.batches import TFDS_PREFIX, label
from kdsr_tf.sources.catalogue_rows import CatalogueRow
from kdsr_tf.sources.folder import open_files
from kdsr_tf.sources.forms import Told, is_text
from kdsr_tf.sources.image_files import absolute_folder
from kdsr_tf.sources.streams import settled_encoding


def open_for_import(
    interactions: str,
    items: str | None,
    reading: Reading,
    *,
    images: Sequence[str] = (),
    data_dir: str | None = None,
) -> Source:
    """Find the files and check that their columns are there.

    Args:
        interactions: File; or, without `items`, a folder in the source format or `tfds:NAME`.
        items: File of the catalogue.
        reading: How the files are read.
        images: Folders and URIs, other than that of `items`, where pictures may lie.
        data_dir: Folder of prepared TFDS datasets.

    Raises:
        InputError: for a file, format, column or encoding that does not fit.
    """
    config = SourceConfig(
        path=interactions,
        columns=reading.own_names(),
        image_folders=list(images),
        tfds=TfdsConfig(data_dir=data_dir),
    )
    if items is None:
        for option in reading.options_given():
            raise InputError(f"{option} describes two files: give INTERACTIONS and ITEMS.")
        if not interactions.startswith(TFDS_PREFIX) and os.path.isfile(interactions):
            raise InputError(
                f"{interactions} is one file. Give the catalogue's file after it, with one row "
                "per item; a column item_id is enough."
            )
        source = open_source(config)
        if not interactions.startswith(TFDS_PREFIX):
            for path in (source.interactions, source.items):
                _settled(path, Told())
        return source
    # A shell completes the name of a folder of parts with a slash.
    interactions, items = (path.rstrip("/") or path for path in (interactions, items))
    for path in (interactions, items):
        filesystem, local = fsspec.core.url_to_fs(path)
        if not filesystem.exists(local):
            raise InputError(f"There is no file {path}.")
    if label(interactions) == label(items):
        raise InputError(
            f"Both files are called {label(items)}, and rows are named after their file. "
            "Rename one of them."
        )
    folder = absolute_folder(posixpath.dirname(items) or ".")
    if reading.published:
        return open_published(reading, config, folder, interactions, items)
    told, told_of_items = reading.of_files()
    settled = _settled(interactions, told), _settled(items, told_of_items)
    return open_files(config, folder, interactions, items, settled)


def pictures_of(source: Source, images: Sequence[str]) -> Pictures:
    """The pictures that a source names, and those of folders that are named after items."""
    folders = [absolute_folder(folder) for folder in images]
    local = [folder for folder in folders if "://" not in folder]
    remote = [folder for folder in folders if "://" in folder]
    own = [] if source.path.startswith(TFDS_PREFIX) else [source.path]
    rows = source.read_items() if local else ()
    by_item = ItemPictures(local, (row.item_id for row in rows if isinstance(row, CatalogueRow)))
    # `--column` does not go with a published format.
    may_rename = not isinstance(source, PublishedSource)
    return Pictures(source.image_column, [*own, *local, *remote], by_item, may_rename)


def _settled(path: str, told: Told) -> Told:
    """What is said about a file, with its encoding."""
    if not is_text(path):
        return told
    return dataclasses.replace(told, encoding=settled_encoding(path, told.encoding))
