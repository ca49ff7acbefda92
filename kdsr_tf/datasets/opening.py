"""From what a user brings to a source that can be imported."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import posixpath
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec

from kdsr_tf.config import SourceConfig
from kdsr_tf.datasets.item_pictures import ItemPictures
from kdsr_tf.datasets.pictures import Pictures
from kdsr_tf.datasets.published.opening import open_published
from kdsr_tf.datasets.reading import PUBLISHED, Reading
from kdsr_tf.errors import InputError
from kdsr_tf.sources import Source, files, open_source
from kdsr_tf.sources.batches import TFDS_PREFIX, ending, label
from kdsr_tf.sources.encodings import UTF_8, marked, settled_encoding
from kdsr_tf.sources.folder import open_files
from kdsr_tf.sources.image_paths import absolute_folder
from kdsr_tf.sources.items import CatalogueRow

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
_CHARACTERS = 1 << 20


def open_for_import(
    interactions: str,
    items: str | None,
    scratch: str,
    reading: Reading,
    *,
    images: Sequence[str] = (),
    data_dir: str | None = None,
) -> Source:
    """Find the files and check that their columns are there.

    Args:
        interactions: File; or, without `items`, a folder in the source format or
            `tfds:NAME`.
        items: File of the catalogue.
        scratch: Existing local folder for files that must be unpacked or decoded first.
        reading: How the files are read.
        images: Folders and URIs, other than that of `items`, where pictures may lie.
        data_dir: Folder of prepared TFDS datasets.

    Raises:
        InputError: for a file, format, column or encoding that does not fit.
    """
    config = SourceConfig(
        path=interactions,
        columns=dict(reading.columns),
        image_folders=list(images),
        tfds={"data_dir": data_dir},
    )
    if items is None:
        for option in reading.options_given():
            raise InputError(f"{option} describes two files: give INTERACTIONS and ITEMS.")
        if not interactions.startswith(TFDS_PREFIX) and os.path.isfile(interactions):
            raise InputError(
                f"{interactions} is one file. Give the catalogue's file after it, with one row "
                "per item; a column item_id is enough."
            )
        return open_source(config)
    for path in (interactions, items):
        filesystem, local = fsspec.core.url_to_fs(path)
        if not filesystem.isfile(local):
            raise InputError(f"There is no file {path}.")
    if label(interactions) == label(items):
        raise InputError(
            f"Both files are called {label(items)}, and rows are named after their file. "
            "Rename one of them."
        )
    folder = absolute_folder(posixpath.dirname(items) or ".")
    paths = (interactions, items)
    if reading.published:
        paths = tuple(_decoded(path, scratch, reading.encoding) for path in paths)
        readable = functools.partial(_readable, scratch=scratch, encoding=None)
        return open_published(reading.published, config, folder, paths, readable)
    readable = [_readable(path, scratch, reading.encoding) for path in paths]
    return open_files(config, folder, *readable)


def pictures_of(source: Source, images: Sequence[str]) -> Pictures:
    """The pictures that a source names, and those of folders that are named after items.

    Args:
        source: What is imported.
        images: As in `open_for_import`.
    """
    folders = [absolute_folder(folder) for folder in images]
    local = [folder for folder in folders if "://" not in folder]
    remote = [folder for folder in folders if "://" in folder]
    own = [] if source.path.startswith(TFDS_PREFIX) else [source.path]
    rows = source.read_items() if local else ()
    by_item = ItemPictures(local, (row.item_id for row in rows if isinstance(row, CatalogueRow)))
    return Pictures(source.image_column, [*own, *local, *remote], by_item)


def _readable(path: str, scratch: str, encoding: str | None) -> str:
    """The file, or its copy in `scratch`, unpacked and in UTF-8."""
    stem, suffix = posixpath.splitext(path)
    compression = _COMPRESSIONS.get(suffix.lower())
    name = posixpath.basename(stem if compression else path)
    kind = ending(name)
    if kind not in files.FORMATS:
        raise InputError(
            f"{path}: its ending does not say how to read it. Expected "
            f"{', '.join('.' + known for known in files.FORMATS)}, packed with "
            f"{', '.join(_COMPRESSIONS)} or not; published files are read with "
            f"--format={'|'.join(PUBLISHED)}."
        )
    if kind == "parquet":
        encoding = None
    elif not encoding:
        with _unpacked(path, compression) as file:
            is_packed = file.read(6).startswith(files.COMPRESSED)
            file.seek(0)
            encoding = None if is_packed else settled_encoding(path, file)
    return _copied(path, os.path.join(scratch, name), compression, encoding)


def _decoded(path: str, scratch: str, encoding: str | None) -> str:
    """Copy in UTF-8 of a published file, if it has another encoding by word or by mark."""
    stem, suffix = posixpath.splitext(path)
    compression = _COMPRESSIONS.get(suffix.lower())
    if not encoding:
        with _unpacked(path, compression) as file:
            encoding = marked(file.read(4))
        if encoding in (None, UTF_8):
            return path
    name = posixpath.basename(stem if compression else path)
    return _copied(path, os.path.join(scratch, name), compression, encoding)


def _copied(path: str, target: str, compression: str | None, encoding: str | None) -> str:
    """The file if it is neither packed nor in another encoding, otherwise its copy in UTF-8."""
    if not compression and not encoding:
        return path
    try:
        with _unpacked(path, compression) as packed, open(target, "wb") as file:
            if not encoding:
                shutil.copyfileobj(packed, file)
                return target
            reader = codecs.getreader(encoding)(packed)
            while text := reader.read(_CHARACTERS):
                file.write(text.encode())
    except LookupError:
        raise InputError(f"--encoding={encoding} is not known. Try latin-1 or cp1252.") from None
    except UnicodeError as error:
        raise InputError(f"{path} is not in {encoding} throughout: {error}.") from None
    return target


@contextlib.contextmanager
def _unpacked(path: str, compression: str | None) -> Iterator[Any]:
    try:
        with fsspec.open(path, "rb", compression=compression) as file:
            yield file
    except (OSError, EOFError) as error:
        verb = "unpacked" if compression else "read"
        raise InputError(f"{path} cannot be {verb}: {error}.") from None
